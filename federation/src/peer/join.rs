//! The answer to a join, which tells of a whole room: taken apart while it comes, an event at a time.
//!
//! May import: `connection`, `limits`, `split`.

use std::collections::VecDeque;

use super::split::Splitter;
use crate::{Pdu, connection::Answer, error::FederationError, limits::STATE_ANSWER_BYTES_MAX};

/// A piece of what a peer says when our user has joined its room. All of it is the peer's claim.
#[derive(Debug)]
pub enum JoinPiece {
    /// The join as the peer keeps it, with its own signature where the room's rules ask for one.
    Event(Pdu),
    /// An entry of the room's state before the join.
    State(Pdu),
    /// An event that authorises others.
    AuthChain(Pdu),
}

/// The answer to a join, piece by piece. What is not asked for waits in the connection.
pub struct JoinAnswer {
    answer: Answer,
    splitter: Option<Splitter>,
    left: usize,
    ready: VecDeque<JoinPiece>,
}

impl JoinAnswer {
    pub(super) fn new(answer: Answer, splitter: Splitter) -> Self {
        Self { answer, splitter: Some(splitter), left: STATE_ANSWER_BYTES_MAX, ready: VecDeque::new() }
    }

    /// The next piece; `None` at the end of an answer that was whole.
    ///
    /// # Errors
    /// When the connection breaks, the time is up, or the answer is not what it should be or too large.
    pub async fn next(&mut self) -> Result<Option<JoinPiece>, FederationError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            let Some(splitter) = &mut self.splitter else { return Ok(None) };
            if let Some(bytes) = self.answer.next().await? {
                self.left = self.left.checked_sub(bytes.len()).ok_or(FederationError::TooLarge)?;
                splitter.push(&bytes)?;
                let auth_chain = splitter.drain("auth_chain").into_iter().map(JoinPiece::AuthChain);
                self.ready.extend(auth_chain);
                self.ready.extend(splitter.drain("state").into_iter().map(JoinPiece::State));
            } else if let Some(splitter) = self.splitter.take() {
                let mut parts = splitter.finish()?;
                if parts.field("members_omitted").is_some_and(|omitted| omitted.get() != "false") {
                    return Err(FederationError::BadAnswer("members are left out"));
                }
                if parts.list("state").is_none() || parts.list("auth_chain").is_none() {
                    return Err(FederationError::BadAnswer("a list is missing"));
                }
                let event = parts.field("event").filter(|event| event.get() != "null");
                self.ready.extend(event.map(JoinPiece::Event));
            }
        }
    }
}
