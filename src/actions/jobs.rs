//! Long work: rows that say what is to be done and what became of it, and going on with it after a crash or a stop.

use std::time::Duration;

use ruma::UserId;
use tokio::sync::oneshot;

use super::{
    ActionError, Actions, Caller, ErrorKind, Page, Window, accounts::must_be_admin, bundle, deactivation, purge,
    remote_join::promised, resume, rows,
};
pub use crate::jobs::Progress;

use crate::storage::{
    Commit, Direction, Home, KeyRange,
    admin::{Job, JobKind, JobState},
    keyspaces::JOBS,
};

/// Jobs that wait or run. More: the next one is told that the server is busy.
const UNFINISHED_MAX: usize = 1_000;
/// How long what became of a job is kept.
const FINISHED_KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Finished jobs that are kept at most.
const FINISHED_MAX: usize = 10_000;
/// How often a job that found the server busy is tried.
const ATTEMPTS_MAX: u32 = 10;
/// Half of the first pause between two tries; each further one is twice as long, 50 s in all.
const PAUSE: Duration = Duration::from_millis(50);

/// A job as it is told.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its id.
    pub id: String,
    /// What is stored of it.
    pub job: Job,
    /// How far it is.
    pub progress: Progress,
}

/// Which jobs are looked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those of this kind, by its word.
    pub kind: Option<String>,
}

/// The id and the row of a new job, for the commit that promises it.
///
/// # Errors
/// [`ActionError::Busy`] when too many wait.
pub async fn new(actions: &Actions, kind: JobKind, by: &UserId) -> Result<(String, Job), ActionError> {
    if page(actions, Direction::Up, |job| !job.state.is_over(), Window::NONE).await?.total >= UNFINISHED_MAX {
        return Err(ActionError::Busy);
    }
    let job = Job {
        kind,
        state: JobState::Queued,
        started_by: by.to_owned(),
        created_at: actions.now(),
        done: 0,
        total: None,
        finished_at: None,
        result: None,
        error: None,
    };
    Ok((actions.timed_id(), job))
}

/// [`new`], promised by a commit of its own.
///
/// # Errors
/// As [`new`]; when storage cannot be written.
pub async fn add(actions: &Actions, kind: JobKind, by: &UserId) -> Result<(String, Job), ActionError> {
    let (id, job) = new(actions, kind, by).await?;
    keep(actions, &id, &job).await?;
    Ok((id, job))
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What came of it, as JSON: what the job tells from then on.
    pub result: String,
    /// Something is there that was not before. Only whoever waits learns it.
    pub is_new: bool,
}

impl From<String> for Ended {
    fn from(result: String) -> Self {
        Self { result, is_new: false }
    }
}

/// Whoever waits for the end of a job.
pub type Told = oneshot::Receiver<Result<Ended, ActionError>>;

/// Begins a job whose row is on disk. It goes on until it is done, or the server stops; then it begins again at the next start.
pub fn launch(actions: &Actions, id: String, job: Job) {
    drop(launch_told(actions, id, job));
}

/// [`launch`], and what becomes of it, for whoever waits.
pub fn launch_told(actions: &Actions, id: String, job: Job) -> Told {
    let running = actions.clone();
    let (tell, told) = oneshot::channel();
    promised::note(actions, &id, &job);
    actions.jobs.spawn(async move {
        let _turn = if job.kind.takes_a_turn() {
            let Some(turn) = running.jobs.turn().await else { return };
            Some(turn)
        } else {
            None
        };
        if let Err(error) = run(&running, &id, job, tell).await {
            tracing::error!(job.id = %id, %error, "What became of job `{id}` was not written down: {error}");
        }
    });
    told
}

/// Goes on with the jobs that a crash or a stop has left over.
///
/// # Errors
/// When storage cannot be read.
pub async fn resume(actions: &Actions) -> Result<(), ActionError> {
    for (id, job) in rows::all(actions.store(), &JOBS, &Home::server(), KeyRange::all()).await? {
        if !job.state.is_over() {
            launch(actions, id, job);
        }
    }
    Ok(())
}

type Tell = oneshot::Sender<Result<Ended, ActionError>>;

async fn run(actions: &Actions, id: &str, job: Job, tell: Tell) -> Result<(), ActionError> {
    let job = Job { state: JobState::Running, ..job };
    actions.jobs.report(id, Progress::default());
    let mut tries = Tries::default();
    let outcome = loop {
        let tried = match keep(actions, id, &job).await {
            Ok(()) => work(actions, id, &job.kind).await,
            Err(error) if matches!(job.kind, JobKind::Import(_)) => Err(bundle::no_room(error)),
            Err(error) => Err(error),
        };
        if tries.is_over(tried.as_ref().err()).await {
            break tried;
        }
    };
    let Progress { done, total } = actions.jobs.progress(id).unwrap_or_default();
    let job = Job { done, total, finished_at: Some(actions.now()), ..job };
    let finished = match &outcome {
        Ok(ended) => Job { state: JobState::Done, result: Some(ended.result.clone()), ..job },
        Err(error) => {
            let told = if error.kind() == ErrorKind::Internal {
                tracing::error!(job.id = %id, %error, "Job `{id}` failed: {error}");
                "something went wrong on this server; its log says what".to_owned()
            } else {
                tracing::warn!(job.id = %id, %error, "Job `{id}` failed: {error}");
                error.to_string()
            };
            Job { state: JobState::Failed, error: Some(told), ..job }
        }
    };
    match outcome {
        // Told at once: where the disk is full, it cannot be written down for a while, and what was uploaded is in the way. Whoever waited may have gone.
        Err(error) => {
            actions.jobs.forget(id);
            leave(actions, &finished).await;
            drop(tell.send(Err(error)));
            end(actions, id, &finished).await?;
        }
        Ok(ended) => {
            end(actions, id, &finished).await?;
            leave(actions, &finished).await;
            drop(tell.send(Ok(ended)));
        }
    }
    sweep(actions).await
}

/// Writes down what became of a job.
async fn end(actions: &Actions, id: &str, finished: &Job) -> Result<(), ActionError> {
    let mut tries = Tries::default();
    let kept = loop {
        let tried = keep(actions, id, finished).await;
        if tries.is_over(tried.as_ref().err()).await {
            break tried;
        }
    };
    actions.jobs.forget(id);
    promised::forget(actions, finished);
    kept
}

/// What the job needed and nobody else does, goes.
async fn leave(actions: &Actions, job: &Job) {
    if let JobKind::Import(wish) = &job.kind {
        bundle::ended(actions, wish).await;
    }
}

/// How often something was tried that finds the server busy now and then.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// It succeeded, failed for good, or was tried often enough. If not, some time passes first.
    async fn is_over(&mut self, error: Option<&ActionError>) -> bool {
        self.0 += 1;
        if self.0 >= ATTEMPTS_MAX || error.is_none_or(|error| error.kind() != ErrorKind::Busy) {
            return true;
        }
        tokio::time::sleep(PAUSE.saturating_mul(1 << self.0)).await;
        false
    }
}

/// Does the work, from its beginning or from wherever an earlier try has left it.
async fn work(actions: &Actions, id: &str, kind: &JobKind) -> Result<Ended, ActionError> {
    let result = match kind {
        JobKind::Deactivate(user_id) => deactivation::leave_all(actions, id, user_id).await,
        JobKind::Purge(Some(room_id)) => purge::work(actions, id, room_id).await,
        JobKind::Resume(room_id) => resume::work(actions, room_id).await,
        JobKind::Purge(None) => Ok("{}".to_owned()),
        JobKind::Import(wish) => return bundle::work(actions, id, wish).await,
        JobKind::Export(wish) => bundle::write_file(actions, id, wish).await,
        JobKind::Join { user_id, room_id, servers } => promised::work(actions, user_id, room_id, servers).await,
    };
    result.map(Ended::from)
}

/// Writes a job down.
///
/// # Errors
/// When storage cannot be written.
pub async fn keep(actions: &Actions, id: &str, job: &Job) -> Result<(), ActionError> {
    let mut commit = Commit::new(Home::server());
    commit.put(&JOBS, &id.to_owned(), job);
    actions.store.commit(commit).await?;
    Ok(())
}

/// Forgets finished jobs that are old, and the oldest of too many.
async fn sweep(actions: &Actions) -> Result<(), ActionError> {
    let finished = page(actions, Direction::Up, |job| job.state.is_over(), Window::ALL).await?;
    let surplus = finished.total.saturating_sub(FINISHED_MAX);
    for (number, (id, job)) in finished.entries.into_iter().enumerate() {
        let is_old = job.finished_at.is_some_and(|at| at.0.saturating_add(FINISHED_KEPT_MS) <= actions.now().0);
        if number >= surplus && !is_old {
            continue;
        }
        let mut commit = Commit::new(Home::server());
        commit.delete(&JOBS, &id);
        actions.store.commit(commit).await?;
    }
    Ok(())
}

/// One job, for who started it and for admins.
///
/// # Errors
/// [`ActionError::NotFound`], alike for unknown ones and for those of others.
pub async fn get(actions: &Actions, caller: &Caller, id: &str) -> Result<JobView, ActionError> {
    let job = actions.store.get(&JOBS, &Home::server(), &id.to_owned()).await?;
    let job = job.filter(|job| caller.is_admin || job.started_by == caller.user_id);
    Ok(view(actions, id.to_owned(), job.ok_or(ActionError::NotFound("job"))?))
}

/// Jobs, newest first, and how many there are in all.
///
/// # Errors
/// A caller who is no admin.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    filter: &Filter,
    window: Window,
) -> Result<Page<JobView>, ActionError> {
    must_be_admin(caller)?;
    let is_wanted = |job: &Job| {
        filter.state.is_none_or(|state| state == job.state)
            && filter.kind.as_deref().is_none_or(|kind| kind == job.kind.as_str())
    };
    let jobs = page(actions, Direction::Down, is_wanted, window).await?;
    Ok(jobs.map(|(id, job)| view(actions, id, job)))
}

/// A page of the jobs that are wanted; their ids sort by their age.
async fn page(
    actions: &Actions,
    direction: Direction,
    is_wanted: impl Fn(&Job) -> bool,
    window: Window,
) -> Result<Page<(String, Job)>, ActionError> {
    rows::page(actions.store(), &JOBS, &Home::server(), direction, is_wanted, None, window).await
}

fn view(actions: &Actions, id: String, job: Job) -> JobView {
    let stored = Progress { done: job.done, total: job.total };
    let progress = actions.jobs.progress(&id).filter(|_| !job.state.is_over()).unwrap_or(stored);
    JobView { id, job, progress }
}
