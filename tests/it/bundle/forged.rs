//! Bundles that somebody has tampered with: taken apart, changed, and put together again, signed anew where that is what is tried.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _, Write as _},
};

use bytes::Bytes;
use rules::{
    canonical,
    keys::{Key, Validity},
    signature::Signer,
};
use ruma::OwnedServerName;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use yurt::bundle::{hex, manifest::VerifyKey};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// A bundle in pieces.
#[derive(Clone)]
pub(super) struct Forged {
    pub(super) entries: Vec<(String, Vec<u8>)>,
    pub(super) manifest: Value,
}

impl Forged {
    pub(super) fn of(bundle: &Bytes) -> Self {
        let mut zip = ZipArchive::new(Cursor::new(bundle.clone())).unwrap();
        let mut entries = Vec::new();
        let mut manifest = Value::Null;
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).unwrap();
            let name = entry.name().unwrap().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if name == "manifest.json" {
                manifest = serde_json::from_slice(&content).unwrap();
            } else {
                entries.push((name, content));
            }
        }
        Self { entries, manifest }
    }

    pub(super) fn entry(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.entries.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    /// The events, a line each.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let text = String::from_utf8(self.entry("events/000001.ndjson").clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn set_lines(&mut self, lines: &[String]) {
        *self.entry("events/000001.ndjson") =
            lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
    }

    /// Lets the manifest say what is there, and signs it as somebody whose key it brings.
    pub(super) fn sealed(mut self) -> Self {
        let mut facts = serde_json::Map::new();
        for (name, content) in &self.entries {
            let sha256 = hex(&Sha256::digest(content));
            facts.insert(name.clone(), json!({ "size": content.len(), "sha256": sha256 }));
        }
        self.manifest["entries"] = Value::Object(facts);
        self.signed()
    }

    /// Signs the manifest as somebody whose key it brings.
    pub(super) fn signed(mut self) -> Self {
        let name: OwnedServerName = "evil.example".try_into().unwrap();
        let signer = Signer::new(name.clone(), "1", &[7; 32]).unwrap();
        let key =
            VerifyKey::of(&Key { public: signer.public_key(), validity: Validity::Until(rules::UnixMs(1 << 50)) });
        self.manifest["server_name"] = json!(name);
        self.manifest["verify_keys"][name.as_str()] = json!(BTreeMap::from([("ed25519:1", key)]));
        let mut object = canonical::read_object(&self.manifest.to_string()).unwrap();
        object.remove("signatures");
        signer.sign_json(&mut object);
        self.manifest = serde_json::from_str(&canonical::to_string(&object)).unwrap();
        self
    }

    /// The file.
    pub(super) fn file(&self) -> Bytes {
        let manifest = canonical::to_string(&canonical::read_object(&self.manifest.to_string()).unwrap());
        let mut entries: Vec<(&str, &[u8])> =
            self.entries.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
        entries.push(("manifest.json", manifest.as_bytes()));
        zipped(&entries)
    }
}

/// A ZIP with these entries.
pub(super) fn zipped(entries: &[(&str, &[u8])]) -> Bytes {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
}
