//! The specification's own schemas of requests and answers between servers, to which what goes over the wire is held.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// Unchanged files of the specification.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/federation/fixtures/matrix-spec");

struct Specification {
    operations: Vec<Operation>,
    error: Validator,
    /// By room version.
    pdus: BTreeMap<&'static str, Validator>,
    /// By type.
    edus: BTreeMap<&'static str, Validator>,
}

/// One method of one path.
struct Operation {
    method: String,
    segments: Vec<String>,
    request: Option<Validator>,
    /// By status; what is no JSON is not held to anything.
    answers: BTreeMap<u16, Validator>,
}

fn specification() -> &'static Specification {
    static SPECIFICATION: OnceLock<Specification> = OnceLock::new();
    SPECIFICATION.get_or_init(Specification::read)
}

/// Says what is wrong with an answer, if anything is.
pub(super) fn judge(method: &str, target: &str, status: u16, body: &Value) -> Result<(), String> {
    let specification = specification();
    let operation = specification.operation(method, target);
    let documented = operation.and_then(|operation| operation.answers.get(&status));
    match (documented, status) {
        (Some(schema), _) => check(schema, body),
        (None, 400..) => check(&specification.error, body),
        (None, _) => Err(format!("{method} {target}: the specification does not know {status}")),
    }
}

/// Says what is wrong with a request, if anything is; none of a path that the specification does not have.
pub(super) fn judge_request(method: &str, target: &str, body: Option<&Value>) -> Result<(), String> {
    let operation = specification().operation(method, target).ok_or_else(|| format!("{method} {target} is unknown"))?;
    match (&operation.request, body) {
        (Some(schema), Some(body)) => check(schema, body),
        (None, None) => Ok(()),
        (Some(_), None) => Err(format!("{method} {target} has no body")),
        (None, Some(_)) => Err(format!("{method} {target} has a body")),
    }
}

/// Says what is wrong with an event of a room of this version, if anything is.
pub(super) fn judge_pdu(version: &str, event: &Value) -> Result<(), String> {
    check(&specification().pdus[version], event)
}

/// Says what is wrong with a piece of short-lived news, if anything is.
pub(super) fn judge_edu(edu: &Value) -> Result<(), String> {
    let schema = edu["edu_type"].as_str().and_then(|kind| specification().edus.get(kind));
    check(schema.ok_or_else(|| format!("nobody knows {edu}"))?, edu)
}

fn check(schema: &Validator, value: &Value) -> Result<(), String> {
    let faults: Vec<String> =
        schema.iter_errors(value).map(|error| format!("at `{}`: {error}", error.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

impl Specification {
    fn read() -> Self {
        let folder = Path::new(FILES).join("api/server-server");
        let mut operations = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_file() {
                operations.extend(operations_of(&whole(&file, "")));
            }
        }
        let definition = |name: &str| compile(&whole(&folder.join("definitions").join(name), ""));
        Self {
            operations,
            error: compile(&whole(&Path::new(FILES).join("api/client-server/definitions/errors/error.yaml"), "")),
            pdus: [("10", "pdu_v6.yaml"), ("11", "pdu_v11.yaml"), ("12", "pdu_v12.yaml")]
                .map(|(version, file)| (version, definition(file)))
                .into(),
            edus: ["m.typing", "m.receipt"]
                .map(|kind| (kind, definition(&format!("event-schemas/{kind}.yaml"))))
                .into(),
        }
    }

    /// The operation that a request is of: that with most fixed segments.
    fn operation(&self, method: &str, target: &str) -> Option<&Operation> {
        let asked: Vec<&str> = target.split('?').next()?.split('/').collect();
        let is_it = |operation: &&Operation| {
            let mut both = operation.segments.iter().zip(&asked);
            operation.method == method
                && operation.segments.len() == asked.len()
                && both.all(|(segment, asked)| segment.starts_with('{') || segment == asked)
        };
        let variables = |operation: &&Operation| operation.segments.iter().filter(|part| part.starts_with('{')).count();
        self.operations.iter().filter(is_it).min_by_key(variables)
    }
}

fn operations_of(document: &Value) -> Vec<Operation> {
    let base = document["servers"][0]["variables"]["basePath"]["default"].as_str().unwrap();
    let mut operations = Vec::new();
    for (path, methods) in entries(&document["paths"]) {
        for (method, operation) in entries(methods) {
            let json = |content: &Value| content.get("application/json").map(|json| compile(&json["schema"]));
            let answers = entries(&operation["responses"])
                .filter_map(|(status, answer)| Some((status.parse().ok()?, json(&answer["content"])?)));
            operations.push(Operation {
                method: method.to_uppercase(),
                segments: format!("{base}{path}").split('/').map(str::to_owned).collect(),
                request: json(&operation["requestBody"]["content"]),
                answers: answers.collect(),
            });
        }
    }
    operations
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn compile(schema: &Value) -> Validator {
    jsonschema::options().with_draft(Draft::Draft202012).build(schema).expect("the specification's schemas compile")
}

/// A part of a file, with everything that it refers to in its place.
fn whole(file: &Path, pointer: &str) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let document: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let part = document.pointer(pointer).unwrap_or_else(|| panic!("{} has no {pointer}", file.display()));
    in_place(part, file)
}

fn in_place(value: &Value, file: &Path) -> Value {
    match value {
        Value::Array(values) => values.iter().map(|value| in_place(value, file)).collect(),
        Value::Object(fields) => {
            let is_schema = |(name, _): &(&String, &Value)| {
                !["$ref", "example", "examples", "description"].contains(&name.as_str())
            };
            let kept = fields.iter().filter(is_schema);
            let mut kept: Map<String, Value> =
                kept.map(|(name, value)| (name.clone(), in_place(value, file))).collect();
            // Of events nobody asks for the field `origin` any more; from version 11 on nothing protects it.
            if kept.get("properties").is_some_and(|properties| properties.get("state_key").is_some())
                && let Some(Value::Array(required)) = kept.get_mut("required")
            {
                required.retain(|field| field != "origin");
            }
            let Some(reference) = fields.get("$ref").and_then(Value::as_str) else { return Value::Object(kept) };
            let (other, pointer) = reference.split_once('#').unwrap_or((reference, ""));
            let other: PathBuf = if other.is_empty() { file.to_owned() } else { file.parent().unwrap().join(other) };
            let referred = whole(&other, pointer);
            if kept.is_empty() { referred } else { json!({ "allOf": [referred, kept] }) }
        }
        other => other.clone(),
    }
}

#[test]
fn the_schemas_tell_right_from_wrong() {
    let version = |answer: Value| judge("GET", "/_matrix/federation/v1/version", 200, &answer);
    version(json!({ "server": { "name": "Yurt", "version": "1" } })).unwrap();
    version(json!({ "server": { "name": 5 } })).unwrap_err();
    judge("GET", "/_matrix/federation/v1/version", 201, &json!({})).unwrap_err();
    judge("GET", "/_matrix/nothing", 404, &json!({ "errcode": "M_UNRECOGNIZED", "error": "no" })).unwrap();
    judge("GET", "/_matrix/nothing", 404, &json!({ "error": "no" })).unwrap_err();
    judge_request("POST", "/_matrix/federation/v1/user/keys/query", Some(&json!({ "device_keys": [] }))).unwrap_err();
    judge_edu(&json!({ "edu_type": "m.typing", "content": { "room_id": "!r", "user_id": "@u:x" } })).unwrap_err();
    judge_pdu("12", &json!({})).unwrap_err();
    assert!(specification().operations.len() >= 20);
}
