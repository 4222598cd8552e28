//! One transaction on its way, and the parts it may have to be cut into. May import: ruma (JSON), `limits`.

use std::collections::VecDeque;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, ServerName};

use crate::{
    Batch, Pdu,
    limits::{TRANSACTION_BYTES_MAX, TRANSACTION_PDUS_MAX},
};

/// What was read from the outbox and is not yet acknowledged. Its parts are sent one after the other.
pub(super) struct InFlight<Cursor> {
    pub(super) parts: VecDeque<Part>,
    /// What to tell the outbox when the last part is through; nothing when only EDUs are sent.
    pub(super) up_to: Option<Cursor>,
}

/// What goes out under one transaction id. It never changes.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) transaction_id: String,
    pub(super) pdus: Vec<CanonicalJsonValue>,
    pub(super) edus: Vec<CanonicalJsonValue>,
    pub(super) made_at: MilliSecondsSinceUnixEpoch,
}

impl Part {
    /// The body.
    pub(super) fn content(&self, origin: &ServerName) -> CanonicalJsonObject {
        CanonicalJsonObject::from([
            ("origin".to_owned(), CanonicalJsonValue::String(origin.to_string())),
            ("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(self.made_at.0.into())),
            ("pdus".to_owned(), CanonicalJsonValue::Array(self.pdus.clone())),
            ("edus".to_owned(), CanonicalJsonValue::Array(self.edus.clone())),
        ])
    }
}

impl<Cursor> InFlight<Cursor> {
    /// Cuts a batch into parts that peers accept. `id` gives ids that were never used.
    pub(super) fn new(
        batch: Option<Batch<Cursor>>,
        mut edus: Vec<CanonicalJsonValue>,
        made_at: MilliSecondsSinceUnixEpoch,
        mut id: impl FnMut() -> String,
    ) -> Self {
        let (pdus, up_to) = batch.map_or((Vec::new(), None), |batch| (batch.pdus, Some(batch.up_to)));
        let mut parts = VecDeque::new();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for pdu in pdus {
            let Some((length, pdu)) = canonical(&pdu) else { continue };
            if part.len() == TRANSACTION_PDUS_MAX || (!part.is_empty() && bytes + length > TRANSACTION_BYTES_MAX) {
                let (pdus, edus) = (std::mem::take(&mut part), std::mem::take(&mut edus));
                parts.push_back(Part { transaction_id: id(), pdus, edus, made_at });
                bytes = 0;
            }
            bytes += length;
            part.push(pdu);
        }
        if !part.is_empty() || !edus.is_empty() {
            parts.push_back(Part { transaction_id: id(), pdus: part, edus, made_at });
        }
        Self { parts, up_to }
    }

    /// Events that are not yet acknowledged.
    pub(super) fn pdus(&self) -> usize {
        self.parts.iter().map(|part| part.pdus.len()).sum()
    }

    /// The peer finds the first part too large: it is cut in two, under new ids. What cannot be cut is given up; says so.
    pub(super) fn cut(&mut self, mut id: impl FnMut() -> String) -> bool {
        let Some(Part { mut pdus, edus, made_at, .. }) = self.parts.pop_front() else { return false };
        if pdus.len() > 1 {
            let second = pdus.split_off(pdus.len() / 2);
            self.parts.push_front(Part { transaction_id: id(), pdus: second, edus, made_at });
            self.parts.push_front(Part { transaction_id: id(), pdus, edus: Vec::new(), made_at });
            true
        } else if !pdus.is_empty() && !edus.is_empty() {
            self.parts.push_front(Part { transaction_id: id(), pdus, edus: Vec::new(), made_at });
            true
        } else {
            false
        }
    }
}

/// An event as canonical JSON, with its length. One that cannot be written so would make the whole transaction unreadable to
/// the peer, and is left out.
fn canonical(pdu: &Pdu) -> Option<(usize, CanonicalJsonValue)> {
    match serde_json::from_str::<CanonicalJsonObject>(pdu.get()) {
        Ok(object) => Some((pdu.get().len(), CanonicalJsonValue::Object(object))),
        Err(error) => {
            tracing::error!(%error, "An event is not sent to other servers, it is no canonical JSON: {error}");
            None
        }
    }
}
