//! The shipped `config.toml` is the documentation of the settings: it must be what the code says.
#![cfg(test)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use ruma::owned_server_name;
use toml::{Table, Value};
use yurt::config::{Config, Tenant};

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config.toml")
}

/// The defaults, the tenant that the shipped file adds, and the dialects that it switches on.
fn expected() -> Config {
    let tenant = vec![Tenant::new("main", owned_server_name!("localhost"))];
    let mut config = Config { tenant, ..Config::default() };
    let dialects = &mut config.dialects;
    (dialects.ryos.enabled, dialects.virola.enabled, dialects.mirage.enabled) = (true, true, true);
    dialects.agora.enabled = true;
    dialects.mirage.prefix = "/mirage".to_owned();
    config
}

/// `section.key` for every key of a configuration.
fn keys(table: &Table, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in table {
        let inner = match value {
            Value::Table(table) => Some(table),
            Value::Array(values) => values.first().and_then(Value::as_table),
            _ => None,
        };
        match inner {
            Some(inner) => found.extend(keys(inner, &format!("{prefix}{key}."))),
            None => {
                found.insert(format!("{prefix}{key}"));
            }
        }
    }
    found
}

#[test]
fn the_shipped_file_says_the_defaults_but_for_its_tenant_and_its_dialects() {
    assert_eq!(Config::load(&shipped(), []).unwrap(), expected());
}

#[test]
fn the_shipped_file_shows_every_key() {
    let written: Table = toml::from_str(&fs::read_to_string(shipped()).unwrap()).unwrap();
    let known = Table::try_from(expected()).unwrap();
    assert_eq!(keys(&written, ""), keys(&known, ""));
}

#[test]
fn the_shipped_file_gives_each_key_a_reason() {
    let text = fs::read_to_string(shipped()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" = ") && !line.starts_with('#')) {
        assert!(lines[number - 1].starts_with("# "), "no comment above `{line}`");
    }
}

#[test]
fn a_configuration_written_by_the_code_reads_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, toml::to_string(&expected()).unwrap()).unwrap();
    assert_eq!(Config::load(&file, []).unwrap(), expected());
}

#[test]
fn a_missing_file_is_named_with_what_to_do() {
    let error = Config::load(&PathBuf::from("no/such.toml"), []).unwrap_err().to_string();
    assert!(error.contains("`no/such.toml`") && error.contains("--config"), "{error}");
}

#[test]
fn a_host_leads_to_one_tenant_whatever_the_case() {
    let mut config = Config { tenant: Vec::new(), ..Config::default() };
    config.tenant.push(Tenant::new("one", owned_server_name!("one.example")));
    config.tenant.push(Tenant::new("two", owned_server_name!("two.example")));
    for (first, second) in [("Chat.example", "chat.example"), ("TWO.example", "three.example")] {
        config.tenant[0].hosts = vec![first.to_owned()];
        config.tenant[1].hosts = vec![second.to_owned()];
        let refused = config.check().unwrap_err().to_string();
        assert!(refused.contains("tenant[1]") && refused.contains("leads to two tenants"), "{refused}");
    }
    config.tenant[0].hosts = vec!["CHAT.example".to_owned(), "chat.EXAMPLE".to_owned()];
    config.check().expect("one tenant may be called the same twice");
}
