//! An answer of the server that was found to be within the contract, and the ways in which a test takes it apart.

use std::collections::BTreeMap;

use serde_json::Value;

use super::contract::{Contract, Observed, contract};

/// An answer of the server. It exists only after the contract was found to allow it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Method and target of the request, for messages.
    request: String,
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Judges what came back. Names of headers are in lower case.
    ///
    /// # Panics
    /// When the contract does not allow the answer, and on 500: no request may bring the server to it.
    #[track_caller]
    pub(crate) fn judged(
        method: &str,
        target: &str,
        status: u16,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> Self {
        Self::judged_by(contract(), method, target, (status, headers, body))
    }

    /// [`Answer::judged`], by the contract of another API.
    #[track_caller]
    pub(crate) fn judged_by(
        contract: &Contract,
        method: &str,
        target: &str,
        (status, headers, body): (u16, BTreeMap<String, String>, Vec<u8>),
    ) -> Self {
        let answer = Self { request: format!("{method} {target}"), status, headers, body };
        let observed = Observed { method, target, status, headers: &answer.headers, body: &answer.body };
        if let Err(fault) = contract.judge(&observed) {
            panic!("outside the contract: {fault}\n{}", answer.shown());
        }
        assert_ne!(status, 500, "the server failed\n{}", answer.shown());
        answer
    }

    /// The answer, if it has this status.
    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "the status is another one\n{}", self.shown());
        self
    }

    /// The data of a 200.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        self.expect_status(200).data()
    }

    /// The data of a 201.
    #[track_caller]
    pub(crate) fn created(self) -> Value {
        self.expect_status(201).data()
    }

    /// The data of a success, whichever.
    #[track_caller]
    pub(crate) fn data(&self) -> Value {
        assert!(self.status < 300, "a success was expected\n{}", self.shown());
        self.json()["data"].clone()
    }

    /// The entries of a list.
    #[track_caller]
    pub(crate) fn list(self) -> Vec<Value> {
        self.ok().as_array().cloned().expect("the data are a list")
    }

    /// What a list says about itself.
    #[track_caller]
    pub(crate) fn meta(&self) -> Value {
        self.json()["meta"].clone()
    }

    /// The `error` of a refusal with this status and code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let error = self.clone().expect_status(status).json()["error"].clone();
        assert_eq!(error["code"], code, "the code is another one\n{}", self.shown());
        error
    }

    /// Holds a 400 `SW_REQUEST_INVALID` to naming the field.
    #[track_caller]
    pub(crate) fn invalid(self, field: &str) {
        let error = self.clone().refused(400, "SW_REQUEST_INVALID");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(field), "the message does not name `{field}`\n{}", self.shown());
    }

    /// Holds to a 400 type invariant whose message names a call.
    #[track_caller]
    pub(crate) fn type_invariant_naming(self, call: &str) {
        let error = self.clone().refused(400, "SW_ROOM_TYPE_INVARIANT");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(call), "the message does not name `{call}`\n{}", self.shown());
    }

    /// Holds to a 400 type invariant.
    #[track_caller]
    pub(crate) fn type_invariant(self) {
        self.refused(400, "SW_ROOM_TYPE_INVARIANT");
    }

    /// Holds to a 403 `SW_ROOM_FORBIDDEN`.
    #[track_caller]
    pub(crate) fn forbidden(self) {
        self.refused(403, "SW_ROOM_FORBIDDEN");
    }

    /// Holds to a 403 `SW_ROOM_FORBIDDEN` with this reason.
    #[track_caller]
    pub(crate) fn forbidden_for(self, reason: &str) {
        let error = self.clone().refused(403, "SW_ROOM_FORBIDDEN");
        assert_eq!(error["reason"], reason, "the reason is another one\n{}", self.shown());
    }

    /// Holds to a 404 `SW_ROOM_NOT_FOUND`.
    #[track_caller]
    pub(crate) fn no_such_room(self) {
        self.refused(404, "SW_ROOM_NOT_FOUND");
    }

    /// Holds to a 409 `SW_ROOM_FROZEN`.
    #[track_caller]
    pub(crate) fn frozen(self) {
        self.refused(409, "SW_ROOM_FROZEN");
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a judged body is JSON")
    }

    fn shown(&self) -> String {
        format!("{} answered {} {}", self.request, self.status, String::from_utf8_lossy(&self.body))
    }
}
