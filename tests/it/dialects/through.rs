//! Somebody who speaks a dialect. Every answer is held to the description of that API.

use serde_json::Value;

use crate::client::{
    Answer, Caller,
    contract::{Api, contract_of},
};

/// Somebody who speaks a dialect.
#[derive(Clone)]
pub(super) struct Through {
    pub(super) caller: Caller,
    api: Api,
    prefix: &'static str,
}

impl Through {
    /// Somebody at the usual place of a dialect.
    pub(super) fn new(caller: Caller, api: Api) -> Self {
        Self { caller, api, prefix: "" }
    }

    /// The same one, where the dialect has a prefix.
    pub(super) fn under(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// The same one with one more header on every request.
    pub(super) fn with_header(&self, name: &str, value: &str) -> Self {
        Self { caller: self.caller.with_header(name, value), ..self.clone() }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(body.to_string().into_bytes())).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(body.to_string().into_bytes())).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None).await
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Answer {
        let answered = self.caller.exchange(method, &format!("{}{path}", self.prefix), body).await;
        Answer::judged_by(contract_of(self.api), method, path, answered)
    }
}
