//! From a file's text and the environment to a [`Config`]. Which keys exist is read off the default configuration, so that a
//! new field is known everywhere by being there.
//!
//! May import: serde, toml, strsim, the sections.

use std::collections::BTreeMap;

use ruma::owned_server_name;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Config, ConfigError, Problem, Tenant};

/// The prefix of the variables that override settings.
const VARIABLE_PREFIX: &str = "YURT_";

/// Reads a configuration. `file` is what errors call the text.
pub(super) fn read(
    text: &str,
    file: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        place: format!("{file}:{}", line_of(text, error.span().map_or(0, |span| span.start))),
        message: error.message().to_owned(),
    };
    let document = DeTable::parse(text).map_err(syntax)?;
    let source = Source { text, file, document: document.get_ref() };
    let example = example();
    source.refuse_unknown(source.document, &example, "")?;

    let mut table: Table = toml::from_str(text).map_err(syntax)?;
    let variables = overlay(&mut table, &example, environment)?;

    let refused = |problem: Problem| {
        let place = variables.get(&problem.path).cloned().unwrap_or_else(|| source.place(&problem.path));
        ConfigError::Value { place, problem }
    };
    let config: Config = serde_path_to_error::deserialize(Value::Table(table))
        .map_err(|error| refused(Problem::new(error.path().to_string(), error.inner().message())))?;
    config.check().map_err(refused)?;
    Ok(config)
}

/// The settings of a table by their paths, such as `listen.api`. A list of tables shows in its first one.
fn settings(table: &Table) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    collect(table, "", &mut found);
    found
}

fn collect<'a>(table: &'a Table, prefix: &str, found: &mut BTreeMap<String, &'a Value>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match inner_table(value) {
            Some(inner) => collect(inner, &format!("{path}."), found),
            None => {
                found.insert(path, value);
            }
        }
    }
}

/// A section's table, or the first of a list of them.
fn inner_table(value: &Value) -> Option<&Table> {
    match value {
        Value::Table(table) => Some(table),
        Value::Array(values) => values.first().and_then(Value::as_table),
        _ => None,
    }
}

/// A configuration that has every key.
fn example() -> Table {
    let tenant = vec![Tenant::new("main", owned_server_name!("localhost"))];
    Table::try_from(Config { tenant, ..Config::default() }).unwrap_or_default()
}

/// A parsed file, for finding the lines of things.
struct Source<'a> {
    text: &'a str,
    file: &'a str,
    document: &'a DeTable<'a>,
}

impl Source<'_> {
    /// Compares the keys of a table with those of the example. `prefix` is the table's own path, with a dot if it has one.
    fn refuse_unknown(&self, table: &DeTable<'_>, example: &Table, prefix: &str) -> Result<(), ConfigError> {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            let Some(known) = example.get(key.get_ref().as_ref()) else {
                let place = format!("{}:{}", self.file, line_of(self.text, key.span().start));
                return Err(ConfigError::UnknownKey { place, nearest: nearest_key(&path), key: path });
            };
            let Some(known) = inner_table(known) else { continue };
            let prefix = format!("{path}.");
            match value.get_ref() {
                DeValue::Table(table) => self.refuse_unknown(table, known, &prefix)?,
                DeValue::Array(values) => {
                    for table in values.iter().filter_map(|value| value.get_ref().as_table()) {
                        self.refuse_unknown(table, known, &prefix)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// File and line of a setting; of its section when it is not written.
    fn place(&self, path: &str) -> String {
        let mut steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
        let mut found = steps.next().and_then(|step| self.document.get(step));
        let mut start = found.map(|value| value.span().start);
        for step in steps {
            found = found.and_then(|value| match value.get_ref() {
                DeValue::Table(table) => table.get(step),
                DeValue::Array(values) => step.parse::<usize>().ok().and_then(|index| values.get(index)),
                _ => None,
            });
            start = found.map(|value| value.span().start).or(start);
        }
        match start {
            Some(start) => format!("{}:{}", self.file, line_of(self.text, start)),
            None => self.file.to_owned(),
        }
    }
}

/// Lays the variables over the file's settings. Answers which variable set which path.
fn overlay(
    table: &mut Table,
    example: &Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let settings = settings(example);
    let by_variable: BTreeMap<String, &str> = settings.keys().map(|path| (variable_of(path), path.as_str())).collect();
    let mut set = BTreeMap::new();
    for (name, text) in environment.into_iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
        let Some((path, kind)) = by_variable.get(&name).and_then(|path| Some((*path, *settings.get(*path)?))) else {
            let nearest = nearest(&name, by_variable.keys().map(String::as_str));
            return Err(ConfigError::UnknownVariable { name, nearest });
        };
        let path = path.replace("tenant.", "tenant[0].");
        let value = value_of(&text, kind).map_err(|message| ConfigError::Value {
            place: name.clone(),
            problem: Problem::new(path.clone(), message),
        })?;
        let (section, key) = path.rsplit_once('.').unwrap_or(("", &path));
        if let Some(section) = section_mut(table, section) {
            section.insert(key.to_owned(), value);
        }
        set.insert(path, name);
    }
    Ok(set)
}

/// The section that a variable sets a key of, made when the file has none. `None` when the file has something else there,
/// which is then refused as such.
fn section_mut<'a>(table: &'a mut Table, section: &str) -> Option<&'a mut Table> {
    match section {
        "" => Some(table),
        "tenant[0]" => {
            let tenants = table.entry("tenant").or_insert_with(|| Value::Array(Vec::new())).as_array_mut()?;
            if tenants.is_empty() {
                tenants.push(Value::Table(Table::new()));
            }
            tenants.first_mut()?.as_table_mut()
        }
        _ => table.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut(),
    }
}

/// A variable's text as the type of value that the setting has.
fn value_of(text: &str, kind: &Value) -> Result<Value, String> {
    let text = text.trim();
    match kind {
        Value::Integer(_) => match text.parse() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => Err(format!("`{text}` is not a whole number")),
        },
        Value::Boolean(_) => match text {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err(format!("`{text}` is neither `true` nor `false`")),
        },
        Value::Array(_) => {
            let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
            Ok(Value::Array(entries.map(|entry| Value::String(entry.to_owned())).collect()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// `listen.api` is overridden by `YURT_LISTEN_API`.
fn variable_of(path: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

/// The key or section that a wrong path was probably meant to be.
fn nearest_key(path: &str) -> String {
    let example = example();
    let settings = settings(&example);
    let sections = example.iter().filter(|(_, value)| inner_table(value).is_some()).map(|(name, _)| name.as_str());
    let in_section = path.contains('.');
    let candidates = settings.keys().map(String::as_str).chain(sections.filter(|_| !in_section));
    nearest(path, candidates)
}

/// The candidate with the fewest changed letters. A right last word under a wrong section counts as one change.
fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |candidate: &&str| {
        let whole = strsim::damerau_levenshtein(text, candidate);
        whole.min(strsim::damerau_levenshtein(&last(text), &last(candidate)).saturating_add(1))
    };
    candidates.min_by_key(distance).unwrap_or_default().to_owned()
}

/// The line, from 1, in which a byte stands.
fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Registration;

    const TENANT: &str = "[[tenant]]\nserver_name = \"example.org\"\n";

    fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read(text, "config.toml", variables).map_err(|error| error.to_string())
    }

    fn refusal(text: &str) -> String {
        read_with(text, &[]).unwrap_err()
    }

    #[test]
    fn an_address_that_may_be_missing_is_empty_or_one() {
        let metrics = |text: &str| read_with(&format!("listen.metrics = \"{text}\"\n{TENANT}"), &[]);
        assert_eq!(metrics("").unwrap().listen.metrics, None);
        assert_eq!(metrics("127.0.0.1:0").unwrap().listen.metrics, Some("127.0.0.1:0".parse().unwrap()));
        assert!(metrics("9090").unwrap_err().contains("write IP and port"));
    }

    #[test]
    fn half_of_tls_is_refused_with_the_half_that_is_missing() {
        let error = refusal(&format!("listen.tls_key = \"key.pem\"\n{TENANT}"));
        assert!(error.contains("`listen.tls_certificate`: is missing"), "{error}");
    }

    #[test]
    fn a_time_of_nothing_is_refused() {
        let error = refusal(&format!("limits.idle_timeout_s = 0\n{TENANT}"));
        assert!(error.contains("`limits.idle_timeout_s`: must be at least 1"), "{error}");
    }

    #[test]
    fn a_file_with_one_server_name_is_enough() {
        let config = read_with(TENANT, &[]).unwrap();
        let tenant = vec![Tenant::new("main", owned_server_name!("example.org"))];
        assert_eq!(config, Config { tenant, ..Config::default() });
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_name() {
        let cases = [
            ("[listen]\napii = \"\"\n", 2, "listen.apii", "listen.api"),
            ("\n\n[listn]\napi = \"\"\n", 3, "listn", "listen"),
            ("data_dirr = \"\"", 1, "data_dirr", "data_dir"),
            ("[listen]\ndata_dir = \"\"\n", 2, "listen.data_dir", "data_dir"),
            (
                "[[tenant]]\nserver_name = \"a\"\n[[tenant]]\nservername = \"b\"\n",
                4,
                "tenant.servername",
                "tenant.server_name",
            ),
            ("listen.apii = \"\"", 1, "listen.apii", "listen.api"),
            ("limits = { enable = true }", 1, "limits.enable", "limits.enabled"),
        ];
        for (text, line, key, nearest) in cases {
            let message = format!("config.toml:{line}: unknown key `{key}`; did you mean `{nearest}`?");
            assert_eq!(refusal(text), message, "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line_and_what_to_write() {
        let cases = [
            ("[listen]\napi = \"localhost:8080\"", "config.toml:2: `listen.api`: ", "write IP and port"),
            ("[listen]\napi = 8080", "config.toml:2: `listen.api`: ", "expected a string"),
            ("[accounts]\n\nregistration = \"opn\"", "config.toml:3: `accounts.registration`: ", "`open`"),
            ("[limits]\nrequests_burst = 0", "config.toml:2: `limits.requests_burst`: ", "nonzero"),
            ("[limits]\nbody_bytes_max = 1", "config.toml:2: `limits.body_bytes_max`: ", "at least 65536"),
            (
                "[listen]\ntrusted_proxies = [\"10.0.0.0/99\"]",
                "config.toml:2: `listen.trusted_proxies[0]`: ",
                "10.0.0.0/8",
            ),
            ("[cors]\norigins = [\"https://a.example/\"]", "config.toml:2: `cors.origins`: ", "no path"),
            ("[log]\nlevel = \"loud\"", "config.toml:2: `log.level`: ", "such as `info`"),
            ("[accounts]\nreserved_aliases = [\"#a:b\"]", "config.toml:2: `accounts.reserved_aliases`: ", "lobby"),
        ];
        for (text, place, advice) in cases {
            let message = refusal(&format!("{text}\n{TENANT}"));
            assert!(message.starts_with(place) && message.contains(advice), "{message}");
        }
    }

    #[test]
    fn tenants_are_checked_one_by_one_and_against_each_other() {
        let long = format!("server_name = \"{}.org\"", "a".repeat(230));
        let cases = [
            (vec![], "config.toml: `tenant`: ", "add a section [[tenant]]"),
            (vec!["name = \"a\""], "config.toml:1: `tenant[0]`: ", "missing field `server_name`"),
            (vec!["server_name = \"not a name\""], "config.toml:2: `tenant[0].server_name`: ", "example.org"),
            (vec![long.as_str()], "config.toml:2: `tenant[0].server_name`: ", "at most 230"),
            (vec!["server_name = \"a\"\nname = \"Main\""], "config.toml:3: `tenant[0].name`: ", "a-z 0-9 -"),
            (vec!["server_name = \"a\"\nname = \"../up\""], "config.toml:3: `tenant[0].name`: ", "a-z 0-9 -"),
            (vec!["server_name = \"a\"\nhosts = [\"a b\"]"], "config.toml:3: `tenant[0].hosts`: ", "not a host"),
            (vec!["server_name = \"a\"\nmax_rooms = 0"], "config.toml:3: `tenant[0].max_rooms`: ", "at least 1"),
            (
                vec!["server_name = \"a\"", "server_name = \"b\""],
                "config.toml:3: `tenant[1].name`: ",
                "give each its own",
            ),
            (
                vec!["server_name = \"a\"", "name = \"b\"\nserver_name = \"a\""],
                "config.toml:5: `tenant[1].server_name`: ",
                "leads to two tenants",
            ),
            (
                vec!["server_name = \"a\"", "name = \"b\"\nserver_name = \"b\"\nhosts = [\"a\"]"],
                "config.toml:6: `tenant[1].hosts`: ",
                "leads to two tenants",
            ),
        ];
        for (tenants, place, advice) in cases {
            let text: String = tenants.iter().map(|tenant| format!("[[tenant]]\n{tenant}\n")).collect();
            let message = refusal(&text);
            assert!(message.starts_with(place) && message.contains(advice), "{message}");
        }
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_line() {
        assert!(refusal("data_dir = \"a\"\n[listen\n").starts_with("config.toml:2: "));
    }

    #[test]
    fn variables_override_the_file() {
        let text = format!("data_dir = \"a\"\n{TENANT}[listen]\napi = \"127.0.0.1:1\"\n");
        let variables = [
            ("YURT_DATA_DIR", "b"),
            ("YURT_LISTEN_API", "127.0.0.1:2"),
            ("YURT_LISTEN_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            ("YURT_LIMITS_ENABLED", "false"),
            ("YURT_ACCOUNTS_TOKEN_LIFETIME_S", "60"),
            ("YURT_ACCOUNTS_REGISTRATION", "open"),
            ("YURT_TENANT_SERVER_NAME", "other.example"),
            ("PATH", "/bin"),
        ];
        let config = read_with(&text, &variables).unwrap();
        assert_eq!(config.data_dir.to_str(), Some("b"));
        assert_eq!(config.listen.api.port(), 2);
        assert_eq!(config.listen.trusted_proxies.len(), 2);
        assert!(!config.limits.enabled);
        assert_eq!(config.accounts.token_lifetime_s, 60);
        assert_eq!(config.accounts.registration, Registration::Open);
        assert_eq!(config.tenant.first().unwrap().server_name, "other.example");
    }

    #[test]
    fn a_variable_can_name_the_only_tenant() {
        let config = read_with("", &[("YURT_TENANT_SERVER_NAME", "example.org")]).unwrap();
        assert_eq!(config.tenant, [Tenant::new("main", owned_server_name!("example.org"))]);
    }

    #[test]
    fn a_wrong_variable_is_refused_by_its_name() {
        let cases = [
            (
                "YURT_LISTEN_APII",
                "1",
                "unknown environment variable `YURT_LISTEN_APII`; did you mean `YURT_LISTEN_API`?",
            ),
            (
                "YURT_LIMITS_ENABLED",
                "yes",
                "YURT_LIMITS_ENABLED: `limits.enabled`: `yes` is neither `true` nor `false`",
            ),
            (
                "YURT_TENANT_MAX_ROOMS",
                "many",
                "YURT_TENANT_MAX_ROOMS: `tenant[0].max_rooms`: `many` is not a whole number",
            ),
        ];
        for (name, value, message) in cases {
            assert_eq!(read_with(TENANT, &[(name, value)]).unwrap_err(), message);
        }
        let message = read_with(TENANT, &[("YURT_TENANT_SERVER_NAME", "a b")]).unwrap_err();
        assert!(message.starts_with("YURT_TENANT_SERVER_NAME: `tenant[0].server_name`: "), "{message}");
    }

    #[test]
    fn every_key_has_its_own_variable() {
        let example = example();
        let paths = settings(&example);
        let variables: std::collections::BTreeSet<_> = paths.keys().map(|path| variable_of(path)).collect();
        assert_eq!(variables.len(), paths.len());
        assert!(paths.len() > 15, "{paths:?}");
    }
}
