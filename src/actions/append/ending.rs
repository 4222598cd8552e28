//! Transient rooms end when somebody leaves and at most one member remains: the commit of the leave promises it, and the purge begins when that is on disk.

use rules::permission::Membership;
use ruma::UserId;
use tokio::sync::oneshot;

use super::Writer;
use crate::{
    actions::{ActionError, jobs},
    storage::{
        Effect, Home,
        admin::{JobKind, Purge},
        history::Summary,
        keyspaces::{JOBS, PURGED},
    },
};

impl Writer {
    /// A membership changed: is this the end of the room?
    pub(super) fn note_end(
        &mut self,
        user_id: &UserId,
        (was, is): (Membership, Membership),
        summary: &Summary,
    ) -> Result<(), ActionError> {
        if !self.view()?.settings.is_transient || self.actions.is_purging(&self.room.id) {
            return Ok(());
        }
        if summary.joined > 1 {
            self.ends_with = None;
        } else if was == Membership::Join && is != Membership::Join {
            self.ends_with = Some(user_id.to_owned());
        }
        Ok(())
    }

    /// Has the commit promise that the room is removed, if it ends with it.
    pub(super) async fn promise_end(&mut self) -> Result<(), ActionError> {
        let Some(by) = self.ends_with.take() else { return Ok(()) };
        let room_id = self.room.id.clone();
        let (id, job) = jobs::new(&self.actions, JobKind::Purge(Some(room_id.clone())), &by).await?;
        let purge = Purge { job_id: id.clone(), by, bytes: None, finished_at: None };
        self.commit.effect(Effect::new(Home::server()).put(&PURGED, &room_id, &purge).put(&JOBS, &id, &job));
        let (promised, is_promised) = oneshot::channel();
        let actions = self.actions.clone();
        self.commit.then(move |outcome| {
            if outcome.is_ok() {
                actions.purging.write().insert(room_id);
                // Nobody waits for it when the server stops; the next start goes on with the job.
                promised.send(()).ok();
            }
        });
        let actions = self.actions.clone();
        self.actions.jobs.spawn(async move {
            if is_promised.await.is_ok() {
                jobs::launch(&actions, id, job);
            }
        });
        Ok(())
    }
}
