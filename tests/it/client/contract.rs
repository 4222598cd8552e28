//! The descriptions of the APIs as the tests use them: which operation a request is, and whether an answer is one of its documented answers.

use std::{collections::BTreeMap, sync::OnceLock};

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// The APIs of the server, each with a description of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Api {
    Native,
    Ryos,
    Virola,
    Mirage,
    Agora,
}

/// All of them, with their descriptions and what the server says its routes are.
pub(crate) const APIS: [(Api, &str, Routes); 5] = [
    (Api::Native, include_str!("../../../schemas/v1.openapi.yaml"), yurt::api::v1::routes),
    (Api::Ryos, include_str!("../../../schemas/ryos.openapi.yaml"), yurt::api::ryos::routes),
    (Api::Virola, include_str!("../../../schemas/virola.openapi.yaml"), yurt::api::virola::routes),
    (Api::Agora, include_str!("../../../schemas/agora.openapi.yaml"), yurt::api::agora::routes),
    (Api::Mirage, include_str!("../../../schemas/mirage.openapi.yaml"), yurt::api::mirage::routes),
];

type Routes = fn() -> Vec<(&'static str, &'static str)>;

/// The contract of the native API, read and compiled once for all tests.
pub(crate) fn contract() -> &'static Contract {
    contract_of(Api::Native)
}

/// The contract of an API, read and compiled once for all tests.
pub(crate) fn contract_of(api: Api) -> &'static Contract {
    static CONTRACTS: [OnceLock<Contract>; APIS.len()] = [const { OnceLock::new() }; APIS.len()];
    let number = APIS.iter().position(|(known, ..)| *known == api).expect("every API is listed");
    CONTRACTS[number].get_or_init(|| Contract::read(APIS[number].1))
}

/// The OpenAPI document with a compiled schema for each of its answers.
pub(crate) struct Contract {
    /// The whole document.
    pub(crate) document: Value,
    answers: BTreeMap<String, Documented>,
}

/// One entry of `components.responses`, ready to judge.
struct Documented {
    /// None: the answer is a file, or nothing.
    body: Option<Validator>,
    headers: Vec<String>,
}

/// What of an answer is judged.
pub(crate) struct Observed<'a> {
    pub(crate) method: &'a str,
    /// The request's target: path and query, percent-encoded as sent.
    pub(crate) target: &'a str,
    pub(crate) status: u16,
    pub(crate) headers: &'a BTreeMap<String, String>,
    pub(crate) body: &'a [u8],
}

impl Contract {
    fn read(text: &str) -> Self {
        let document: Value = serde_saphyr::from_str(text).expect("the contract is YAML");
        let answers = object(&document["components"]["responses"])
            .iter()
            .map(|(name, answer)| {
                let json = answer["content"].get("application/json");
                let body = json.map(|json| compile(&document, &json["schema"]));
                let headers = answer["headers"].as_object().map(Map::keys).into_iter().flatten();
                let required = headers.filter(|header| is_required(&document, &answer["headers"][*header]));
                (name.clone(), Documented { body, headers: required.map(|name| name.to_lowercase()).collect() })
            })
            .collect();
        Self { document, answers }
    }

    /// Each operation as (method in upper case, path template).
    pub(crate) fn operations(&self) -> impl Iterator<Item = (String, String)> {
        object(&self.document["paths"])
            .iter()
            .flat_map(|(path, methods)| object(methods).keys().map(move |method| (method.to_uppercase(), path.clone())))
    }

    /// Says what is wrong with an answer, if anything is.
    pub(crate) fn judge(&self, observed: &Observed<'_>) -> Result<(), String> {
        let name = self.documented_answer(observed)?;
        let documented = &self.answers[&name];
        for header in &documented.headers {
            if !observed.headers.contains_key(header) {
                return Err(format!("the header `{header}` of `{name}` is missing"));
            }
        }
        let Some(schema) = &documented.body else { return Ok(()) };
        let content_type = observed.headers.get("content-type").map_or("", String::as_str);
        if !content_type.starts_with("application/json") {
            return Err(format!("the content type is `{content_type}`"));
        }
        let body: Value =
            serde_json::from_slice(observed.body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let faults: Vec<String> =
            schema.iter_errors(&body).map(|error| format!("at `{}`: {error}", error.instance_path())).collect();
        if faults.is_empty() { Ok(()) } else { Err(format!("the body is not a `{name}`: {}", faults.join("; "))) }
    }

    /// The name in `components.responses` of what may answer this request with this status.
    fn documented_answer(&self, observed: &Observed<'_>) -> Result<String, String> {
        let path = observed.target.split('?').next().unwrap_or_default();
        let Some(methods) = self.template_of(path).map(|template| &self.document["paths"][template]) else {
            return self.outside("unknown-path", observed.status, 404);
        };
        let method = observed.method.to_lowercase();
        let Some(operation) = methods.get(if method == "head" { "get" } else { &method }) else {
            return self.outside("unknown-method", observed.status, 405);
        };
        let answer = &operation["responses"][observed.status.to_string()];
        let reference = answer["$ref"].as_str();
        reference.map(last_segment).ok_or_else(|| format!("the status {} is not documented", observed.status))
    }

    /// The path template that a path belongs to: the one with most fixed segments.
    pub(crate) fn template_of(&self, path: &str) -> Option<&String> {
        let segments: Vec<&str> = path.split('/').collect();
        let matching = object(&self.document["paths"]).keys().filter(|template| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == segments.len()
                && parts
                    .iter()
                    .zip(&segments)
                    .all(|(part, segment)| if part.starts_with('{') { !segment.is_empty() } else { part == segment })
        });
        matching.min_by_key(|template| template.matches('{').count())
    }

    fn outside(&self, which: &str, status: u16, wanted: u16) -> Result<String, String> {
        if status != wanted {
            return Err(format!("no operation does this ({which}), so {wanted} was expected"));
        }
        let reference = self.document["x-outside-operations"][which]["$ref"].as_str();
        reference.map(last_segment).ok_or_else(|| format!("the contract does not say what answers for an {which}"))
    }
}

/// Compiles a schema of the document; its references into `components.schemas` hold.
pub(crate) fn compile(document: &Value, schema: &Value) -> Validator {
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema],
        "components": {"schemas": document["components"]["schemas"]},
    });
    jsonschema::options().with_draft(Draft::Draft202012).build(&whole).expect("the contract's schemas compile")
}

/// What a reference of the document points to.
pub(crate) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere"),
        None => value,
    }
}

fn is_required(document: &Value, header: &Value) -> bool {
    resolve(document, header)["required"] == json!(true)
}

fn last_segment(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or(reference).to_owned()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("the contract has an object here")
}
