//! The vectors of the specification, the leniency that deployed servers need, and ruma as a second opinion.

use proptest::prelude::*;
use ruma::{
    api::federation::authentication::{XMatrix as RumaXMatrix, XMatrixSigningInput},
    server_name,
    signatures::{Ed25519KeyPair, PublicKeyMap},
};
use serde_json::Value;

use super::*;
use crate::our_keys::SigningKeys;

const VECTORS: &str = include_str!("../../fixtures/x-matrix.json");
const SERVER_NAMES: &str = include_str!("../../fixtures/server-names.json");
/// Key of the specification's vectors.
const SEED: &str = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn key() -> SigningKey {
    SigningKeys::parse(&format!("ed25519 1 {SEED}")).unwrap().current().clone()
}

fn known(key_id: &ServerSigningKeyId) -> Option<[u8; 32]> {
    (key_id == "ed25519:1").then(|| key().public_key())
}

fn headers(values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
}

/// Parses and verifies the first request of the vectors under these headers.
fn check(values: &[&str]) -> Result<(), String> {
    let vectors = vectors();
    check_object(values, &vectors["requests"][0]["signed_object"])
}

fn check_object(values: &[&str], object: &Value) -> Result<(), String> {
    let content: Option<CanonicalJsonObject> =
        object.get("content").map(|content| serde_json::from_value(content.clone()).unwrap());
    let signatures = parse(&headers(values)).map_err(|error| error.to_string())?;
    let (method, target) = (object["method"].as_str().unwrap(), object["uri"].as_str().unwrap());
    verify(&signatures, method, target, server_name!("dest.example:8448"), content.as_ref(), &known)
        .map_err(|error| error.to_string())
}

fn good_header() -> String {
    vectors()["requests"][0]["headers_all_equivalent"][0].as_str().unwrap().to_owned()
}

/// S2S 5 the headers that we read.
#[test]
fn the_headers_of_the_vectors_are_all_good() {
    for request in vectors()["requests"].as_array().unwrap() {
        for header in request["headers_all_equivalent"].as_array().unwrap() {
            check_object(&[header.as_str().unwrap()], &request["signed_object"]).unwrap();
        }
    }
}

/// S2S 5 the headers that we read.
#[test]
fn what_the_vectors_say_must_be_refused_is_refused() {
    for case in vectors()["must_reject"].as_array().unwrap() {
        check(&[case["header"].as_str().unwrap()]).unwrap_err();
    }
}

/// S2S 5 the header that we send.
#[test]
fn our_header_is_the_one_of_the_vectors() {
    for request in vectors()["requests"].as_array().unwrap() {
        let object = &request["signed_object"];
        let content: Option<CanonicalJsonObject> =
            object.get("content").map(|content| serde_json::from_value(content.clone()).unwrap());
        let text = |name: &str| object[name].as_str().unwrap();
        let (origin, destination) = (server_name!("domain"), server_name!("dest.example:8448"));
        let header = sign(&key(), origin, destination, text("method"), text("uri"), content.as_ref()).unwrap();
        assert_eq!(header.to_str().unwrap(), request["headers_all_equivalent"][0].as_str().unwrap());
    }
}

#[test]
fn ruma_signs_and_verifies_the_same() {
    let (origin, destination) = (server_name!("domain"), server_name!("dest.example:8448"));
    let (method, target, body) = ("PUT", "/_matrix/federation/v1/send/%2F%24?a=b%20c&a=", r#"{"b":1,"a":"é\n"}"#);
    let request = http::Request::builder().method(method).uri(target).body(body.as_bytes().to_vec()).unwrap();
    let content: CanonicalJsonObject = serde_json::from_str(body).unwrap();

    let ours = sign(&key(), origin, destination, method, target, Some(&content)).unwrap();
    // A key of 32 bytes, as ruma reads it: PKCS#8 of the first version.
    let der = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".as_slice(), &key().seed()].concat();
    let ruma_key = Ed25519KeyPair::from_der(&der, "1".to_owned()).unwrap();
    let input = XMatrixSigningInput::new(origin.to_owned(), destination.to_owned(), &ruma_key);
    let theirs = RumaXMatrix::sign_http_request(&request, input).unwrap();

    let mut keys = PublicKeyMap::new();
    keys.entry("domain".to_owned())
        .or_default()
        .insert("ed25519:1".to_owned(), Base64::new(key().public_key().to_vec()));
    RumaXMatrix::parse(ours.to_str().unwrap()).unwrap().verify_http_request(&request, destination, &keys).unwrap();
    let signatures = parse(&HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from(&theirs))])).unwrap();
    verify(&signatures, method, target, destination, Some(&content), &known).unwrap();
}

/// S2S 5 origin and destination.
#[test]
fn a_header_without_destination_is_for_us() {
    check(&[&good_header().replace(r#"destination="dest.example:8448","#, "")]).unwrap();
}

#[test]
fn a_change_of_method_target_or_body_is_noticed() {
    let mut object = vectors()["requests"][0]["signed_object"].clone();
    for (field, value) in
        [("method", "POST".into()), ("uri", "/_matrix/other".into()), ("content", serde_json::json!({}))]
    {
        let before = std::mem::replace(&mut object[field], value);
        check_object(&[&good_header()], &object).unwrap_err();
        object[field] = before;
    }
    check_object(&[&good_header()], &object).unwrap();
}

/// S2S 5 several headers.
#[test]
fn several_headers_need_one_known_key_and_no_known_key_that_lies() {
    let good = good_header();
    let unknown = good.replace("ed25519:1", "ed25519:other");
    let other_algorithm = good.replace("ed25519:1", "rsa:1");
    let wrong = good.replace("wMB7", "wMB8");
    check(&[&unknown, &good, &other_algorithm, "Bearer abc"]).unwrap();
    assert_eq!(check(&[&good, &wrong]).unwrap_err(), Unverified::BadSignature.to_string());
    assert_eq!(check(&[&unknown]).unwrap_err(), Unverified::NoKnownKey.to_string());
    let other_origin = good.replace("\"domain\"", "\"Domain\"");
    assert_eq!(check(&[&good, &other_origin]).unwrap_err(), Malformed::SeveralOrigins.to_string());
}

/// S2S 5 the headers that we read.
#[test]
fn malformed_headers_are_told_apart() {
    let good = good_header();
    let cases = [
        (format!("{good},origin=\"domain\""), Malformed::Twice),
        (format!("{good},ORIGIN=other"), Malformed::Twice),
        (good.replace("sig=\"", "sig=\"?"), Malformed::Value("sig")),
        (good.replace("\"ed25519:1\"", "\"ed25519\""), Malformed::Value("key")),
        (good.replace("\"domain\"", "\"domain:123456\""), Malformed::Value("origin")),
        (good.replace("\"domain\"", &format!("\"{}\"", "a".repeat(231))), Malformed::Value("origin")),
        (good.trim_end_matches('"').to_owned(), Malformed::Syntax),
        (good.replace("\",key", "\" key"), Malformed::Syntax),
        ("X-Matrix origin".to_owned(), Malformed::Syntax),
        ("X-Matrix".to_owned(), Malformed::Incomplete),
        ("X-Matrixorigin=domain".to_owned(), Malformed::Missing),
        ("Basic abc".to_owned(), Malformed::Missing),
    ];
    for (header, error) in cases {
        assert_eq!(parse(&headers(&[&header])).unwrap_err(), error, "{header}");
    }
    let many = vec![good.as_str(); REQUEST_SIGNATURES_MAX + 1];
    assert_eq!(parse(&headers(&many)).unwrap_err(), Malformed::TooMany);
}

/// S2S 3 the order of decisions.
#[test]
fn server_names_are_those_of_the_specification() {
    let vectors: Value = serde_json::from_str(SERVER_NAMES).unwrap();
    let names = |list: &str| -> Vec<String> { serde_json::from_value(vectors[list].clone()).unwrap() };
    for name in names("valid") {
        assert_eq!(server_name(&name).unwrap(), name);
    }
    for name in names("invalid") {
        assert_eq!(server_name(&name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn no_header_makes_the_reader_panic(text in "(?i:x-matrix)[ \t]*[ -~]{0,80}") {
        let _: Result<_, _> = parse(&headers(&[&text]));
    }

    /// S2S 5 the headers that we read.
    #[test]
    fn quoted_values_read_as_they_were(value in "[ -~]{0,20}") {
        let quoted: String = value.chars().flat_map(|letter| ['\\', letter]).collect();
        let header = format!("X-Matrix destination=\"{quoted}\" , {}", &good_header()[9..].replace("destination", "other"));
        let parsed = parse(&headers(&[&header])).unwrap();
        prop_assert_eq!(parsed[0].destination.as_deref(), Some(value.as_str()));
    }
}
