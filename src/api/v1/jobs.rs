//! Long work: how far it is and what became of it.

use axum::Json as Answer;
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    error::V1Error,
    path::Name,
    wire::{Data, List},
};
use crate::{
    actions::{
        ActionError, JobState, Page,
        jobs::{self, Filter, JobView},
    },
    api::{
        body::Parameters,
        caller::{Admin, Signed},
        page, time,
    },
};

#[derive(Serialize)]
pub(super) struct Job {
    id: String,
    kind: &'static str,
    state: &'static str,
    progress: Progress,
    started_by: OwnedUserId,
    created_at: String,
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Progress {
    done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

impl Job {
    fn new(JobView { id, job, progress }: JobView) -> Result<Self, ActionError> {
        Ok(Self {
            id,
            kind: job.kind.as_str(),
            state: job.state.as_str(),
            progress: Progress { done: progress.done, total: progress.total },
            started_by: job.started_by,
            created_at: time::text(job.created_at),
            finished_at: job.finished_at.map(time::text),
            result: job.result.map(RawValue::from_string).transpose().map_err(ActionError::internal)?,
            error: job.error,
        })
    }
}

/// `GET /v1/jobs/{id}`
pub(super) async fn get(Signed { actions, caller, .. }: Signed, Name(id): Name) -> Result<Answer<Data<Job>>, V1Error> {
    Ok(Data::json(Job::new(jobs::get(&actions, &caller, &id).await?)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    state: Option<State>,
    kind: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Queued,
    Running,
    Done,
    Failed,
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::Done => Self::Done,
            State::Failed => Self::Failed,
        }
    }
}

/// `GET /v1/admin/jobs`
pub(super) async fn list(
    Admin { actions, caller }: Admin,
    Parameters(find): Parameters<Find>,
) -> Result<Answer<List<Job>>, V1Error> {
    let window = page::window(find.offset, find.limit)?;
    let filter = Filter { state: find.state.map(JobState::from), kind: find.kind };
    let Page { entries, total } = jobs::list(&actions, &caller, &filter, window).await?;
    let entries: Vec<Job> = entries.into_iter().map(Job::new).collect::<Result<_, _>>()?;
    Ok(List::json(Page { entries, total }))
}
