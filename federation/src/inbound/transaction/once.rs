//! Each transaction runs once: who sends it again while it runs waits for the same answer. One at a time for each origin.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tracing::Instrument as _;

use crate::{
    Refusal,
    inbound::error::Failure,
    limits::{TRANSACTION_ANSWER_MAX, TRANSACTION_WAIT_MAX, TRANSACTIONS_WAITING_MAX},
    quotas::TooMany,
};

/// The answer to a transaction, or why there is none.
pub(crate) type Outcome = Result<Arc<RawValue>, Failure>;

/// The transactions that run or wait for their turn, by origin. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Transactions(Arc<Mutex<HashMap<OwnedServerName, OfOrigin>>>);

struct OfOrigin {
    /// Held by the one that runs.
    turn: Arc<Semaphore>,
    /// By transaction id: those that run or wait.
    begun: HashMap<String, watch::Receiver<Option<Outcome>>>,
}

/// Has not yet waited until no other transaction of the origin runs.
pub(crate) struct Turn(Arc<Semaphore>);

impl Turn {
    /// Waits until no other transaction of the origin runs.
    pub(crate) async fn wait(self) -> Result<OwnedSemaphorePermit, Failure> {
        let turn = timeout(TRANSACTION_WAIT_MAX, self.0.acquire_owned()).await.map_err(|_elapsed| BUSY)?;
        turn.map_err(|_closed| Refusal::Unavailable.into())
    }
}

const BUSY: Failure = Failure::TooMany(TooMany { retry_after: Duration::from_secs(1) });

/// A transaction that runs or waits.
pub(crate) struct Begun(watch::Receiver<Option<Outcome>>);

impl Begun {
    /// Waits for the answer. Who goes away or waits too long stops nothing.
    pub(crate) async fn answer(mut self) -> Outcome {
        let answered = timeout(TRANSACTION_ANSWER_MAX, self.0.wait_for(Option::is_some)).await;
        let Ok(Ok(outcome)) = answered else { return Err(Refusal::Unavailable.into()) };
        (*outcome).clone().unwrap_or(Err(Refusal::Unavailable.into()))
    }
}

impl Transactions {
    /// Joins the transaction when it runs already; else begins it in a task.
    ///
    /// # Errors
    /// When too many of this origin wait.
    pub(crate) fn join<Work>(
        &self,
        origin: &ServerName,
        transaction_id: &str,
        work: impl FnOnce(Turn) -> Work,
    ) -> Result<Begun, Failure>
    where
        Work: Future<Output = Outcome> + Send + 'static,
    {
        let mut origins = self.0.lock();
        let of_origin = origins
            .entry(origin.to_owned())
            .or_insert_with(|| OfOrigin { turn: Arc::new(Semaphore::new(1)), begun: HashMap::new() });
        if let Some(begun) = of_origin.begun.get(transaction_id) {
            return Ok(Begun(begun.clone()));
        }
        if of_origin.begun.len() > TRANSACTIONS_WAITING_MAX {
            return Err(BUSY);
        }
        let (tell, begun) = watch::channel(None);
        of_origin.begun.insert(transaction_id.to_owned(), begun.clone());
        let ends = Ends { all: self.clone(), origin: origin.to_owned(), transaction_id: transaction_id.to_owned() };
        let work = work(Turn(Arc::clone(&of_origin.turn)));
        tokio::spawn(
            async move {
                let outcome = work.await;
                drop(ends);
                tell.send_replace(Some(outcome));
            }
            .in_current_span(),
        );
        Ok(Begun(begun))
    }
}

/// Forgets a transaction when its task ends, however it ends.
struct Ends {
    all: Transactions,
    origin: OwnedServerName,
    transaction_id: String,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let mut origins = self.all.0.lock();
        if let Some(of_origin) = origins.get_mut(&self.origin) {
            of_origin.begun.remove(&self.transaction_id);
            if of_origin.begun.is_empty() {
                origins.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use tokio::sync::oneshot;

    use super::*;

    fn answer(text: &str) -> Outcome {
        Ok(Arc::from(RawValue::from_string(format!("\"{text}\"")).unwrap()))
    }

    fn text(outcome: Outcome) -> Result<String, Failure> {
        outcome.map(|answer| answer.get().to_owned())
    }

    #[tokio::test]
    async fn who_sends_a_transaction_again_while_it_runs_gets_its_answer() {
        let all = Transactions::default();
        let origin = server_name!("one.example");
        let (go, gone) = oneshot::channel::<()>();
        let first = all.join(origin, "t", |turn| async move {
            let _turn = turn.wait().await?;
            gone.await.unwrap();
            answer("first")
        });
        let second = all.join(origin, "t", |_turn| async { answer("second") });
        let elsewhere = all.join(server_name!("other.example"), "t", |_turn| async { answer("elsewhere") });
        assert_eq!(text(elsewhere.unwrap().answer().await).unwrap(), "\"elsewhere\"");
        go.send(()).unwrap();
        assert_eq!(text(first.unwrap().answer().await).unwrap(), "\"first\"");
        assert_eq!(text(second.unwrap().answer().await).unwrap(), "\"first\"");
        assert!(all.0.lock().is_empty(), "nothing is kept of what is done");
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_has_one_transaction_running_and_few_waiting() {
        let all = Transactions::default();
        let origin = server_name!("one.example");
        let (_go, gone) = oneshot::channel::<()>();
        let running = all.join(origin, "0", |turn| async move {
            let _turn = turn.wait().await?;
            let _ = gone.await;
            answer("0")
        });
        let waiting: Vec<_> = (1..=TRANSACTIONS_WAITING_MAX)
            .map(|number| {
                all.join(origin, &number.to_string(), |turn| async move {
                    let _turn = turn.wait().await?;
                    answer("late")
                })
            })
            .collect();
        assert_eq!(all.join(origin, "more", |_turn| async { answer("more") }).err(), Some(BUSY));
        for waiting in waiting {
            assert_eq!(text(waiting.unwrap().answer().await), Err(BUSY), "it waited long enough");
        }
        assert_eq!(
            text(running.unwrap().answer().await),
            Err(Refusal::Unavailable.into()),
            "its asker is not kept for ever"
        );
    }

    #[tokio::test]
    async fn a_transaction_whose_work_panics_is_forgotten_and_can_be_sent_again() {
        let all = Transactions::default();
        let origin = server_name!("one.example");
        let broken = all.join(origin, "t", |_turn| async { panic!("as a test") }).unwrap();
        assert_eq!(text(broken.answer().await), Err(Refusal::Unavailable.into()));
        let again = all.join(origin, "t", |_turn| async { answer("again") }).unwrap();
        assert_eq!(text(again.answer().await).unwrap(), "\"again\"");
    }
}
