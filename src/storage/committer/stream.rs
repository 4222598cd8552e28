//! One stream and the groups that are written to it. Runs on the committer's thread; nothing else writes the stream.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

use tokio::sync::watch;

use super::{Counting, EffectMode, Submission};
use crate::storage::{
    CommitError, StorageError,
    changes::{self, Change, Changes, GroupId, Position, StreamId},
    commit::{EFFECTS, Effect, Size, StoredEffect},
    engine::{ApplyError, Batch, Engine, Group, RowRange},
    home::Home,
    key,
    keyspace::RowKey,
    range::{Caching, Direction, Limit, behind},
    value,
};

/// Commits of one group.
const GROUP_COMMITS_MAX: usize = 256;

/// Rows of one group; the last commit may pass it.
const GROUP_ROWS_MAX: usize = 4_096;

/// Bytes of one group; the last commit may pass it.
const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of the changes of one group: what one feed row can hold.
const GROUP_CHANGE_BYTES_MAX: usize = crate::storage::commit::COMMIT_CHANGE_BYTES_MAX;

/// What is known of the stream's end.
enum Standing {
    /// Everything.
    Known,
    /// A write was lost, or effects wait: the engine has to be asked before the next group.
    Unsettled,
    /// Somebody else writes to it.
    Fenced,
}

/// A stream, as its only writer sees it.
pub(super) struct Stream {
    engine: Arc<dyn Engine>,
    effects: EffectMode,
    feed_rows_max: u64,
    id: StreamId,
    epoch: u64,
    last: u64,
    standing: Standing,
    publish: watch::Sender<Position>,
    counting: Arc<Counting>,
}

impl Stream {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        (effects, feed_rows_max): (EffectMode, u64),
        (id, epoch): (StreamId, u64),
        publish: watch::Sender<Position>,
        counting: Arc<Counting>,
    ) -> Self {
        let last = publish.borrow().number();
        Self { engine, effects, feed_rows_max, id, epoch, last, standing: Standing::Unsettled, publish, counting }
    }

    /// Applies the effects that a crash left over.
    pub(super) fn open(&mut self) -> Result<(), StorageError> {
        let settled = self.settle();
        self.publish();
        settled
    }

    pub(super) fn group(&self, first: Box<Submission>) -> Waiting {
        Waiting {
            size: first.commit.size(),
            mixes_homes: self.effects == EffectMode::Inline,
            submissions: vec![*first],
        }
    }

    /// Decides about all commits of a group, writes the good ones, runs the hooks and answers.
    pub(super) fn run(&mut self, group: Waiting) {
        let mut submissions = group.submissions;
        let verdicts = self.decide(&mut submissions);
        let (mut done, mut conflicts, mut refused) = (0, 0, 0);
        for (submission, verdict) in submissions.iter_mut().zip(&verdicts) {
            match verdict {
                Ok(_) => done += 1,
                Err(CommitError::Conflict) => conflicts += 1,
                Err(_) => refused += 1,
            }
            for hook in submission.commit.take_hooks() {
                if catch_unwind(AssertUnwindSafe(|| hook(verdict))).is_err() {
                    tracing::error!("A hook of a commit panicked; the commit itself stands as it was answered");
                }
            }
        }
        self.counting.answered(done, conflicts, refused);
        // Who follows the feed finds what hooks have put in memory; who is answered finds the position.
        self.publish();
        for (submission, verdict) in submissions.into_iter().zip(verdicts) {
            // Nobody may be waiting any more.
            let _ = submission.answer.send(verdict);
        }
    }

    fn publish(&self) {
        let position = Position::new(self.id, self.last);
        self.publish.send_if_modified(|published| std::mem::replace(published, position) != position);
    }

    fn decide(&mut self, submissions: &mut [Submission]) -> Vec<Result<Position, CommitError>> {
        let all = |error: CommitError| vec![Err(error); submissions.len()];
        if matches!(self.standing, Standing::Fenced) {
            return all(CommitError::Fenced);
        }
        if let Err(error) = self.settle() {
            self.counting.failing();
            return all(error.into());
        }
        let stored = match self.required(submissions) {
            Ok(stored) => stored,
            Err(error) => return all(error.into()),
        };
        let mut plan = Plan::new(self.effects, self.last + 1);
        let refusals: Vec<_> = submissions.iter_mut().map(|one| plan.add(one, &stored).err()).collect();
        let outcome = if plan.batch.is_empty() && plan.changes.is_none() { Ok(()) } else { self.write(plan) };
        let position = Position::new(self.id, self.last);
        let verdict = |refusal: Option<CommitError>| match (refusal, &outcome) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(())) => Ok(position),
            (None, Err(error)) => Err(error.clone()),
        };
        refusals.into_iter().map(verdict).collect()
    }

    /// The rows of all conditions as they are stored, each read once: the commits to one room all rest on its tip.
    fn required(&self, submissions: &[Submission]) -> Result<HashMap<RowKey, Option<Vec<u8>>>, StorageError> {
        let requires = submissions.iter().flat_map(|one| &one.commit.requires);
        let keys: HashSet<&RowKey> = requires.map(|require| &require.key).collect();
        let keys: Vec<RowKey> = keys.into_iter().cloned().collect();
        let stored = block_on(self.engine.get(keys.clone(), Caching::Keep))?;
        Ok(keys.into_iter().zip(stored).collect())
    }

    /// Writes a group and then, if they wait, its effects.
    fn write(&mut self, plan: Plan) -> Result<(), CommitError> {
        self.apply(plan.batch, &plan.changes.unwrap_or_default())?;
        if plan.waiting.is_empty() {
            return Ok(());
        }
        self.apply_effects(plan.waiting).map_err(|error| {
            tracing::warn!(%error, "A commit was written but its effects were not; they are tried again before the next one");
            CommitError::Unknown
        })
    }

    /// One batch at the next position.
    fn apply(&mut self, batch: Batch, changes: &Changes) -> Result<(), CommitError> {
        let number = self.last + 1;
        let position = Position::new(self.id, number);
        let id = GroupId(rand::random());
        let feed = changes.row(position, self.epoch, id).map_err(|error| CommitError::Invalid(error.to_string()))?;
        let bytes = batch.bytes() + feed.1.len();
        let started = Instant::now();
        let forgotten = number.checked_sub(self.feed_rows_max).filter(|number| *number > 0);
        let forgotten = forgotten.map(|number| changes::row_key(Position::new(self.id, number)));
        let group = Group { stream: self.id, number, epoch: self.epoch, id, feed, forgotten, batch };
        let applied = self.engine.apply(&group);
        self.counting.applied(started.elapsed(), bytes, applied.is_ok());
        match applied {
            Ok(()) => {
                self.last = number;
                Ok(())
            }
            Err(ApplyError::Taken) => {
                tracing::error!("Another process writes to this store; this one refuses every commit from now on");
                self.standing = Standing::Fenced;
                Err(CommitError::Fenced)
            }
            Err(ApplyError::Unavailable(reason)) => {
                tracing::error!(%reason, "A group of commits could not be written");
                Err(CommitError::Unavailable(reason))
            }
            Err(ApplyError::Unknown(reason)) => {
                tracing::error!(%reason, "It is not known whether a group of commits was written");
                self.standing = Standing::Unsettled;
                Err(CommitError::Unknown)
            }
        }
    }

    /// Finds out what became of a lost write, and applies the effects that are left over.
    fn settle(&mut self) -> Result<(), StorageError> {
        if !matches!(self.standing, Standing::Unsettled) {
            return Ok(());
        }
        let (last, _) = block_on(self.engine.last(self.id))?;
        self.last = self.last.max(last);
        self.standing = Standing::Known;
        let left_over = self.left_over_effects().and_then(|effects| {
            self.apply_effects(effects).map_err(|error| StorageError::Engine(format!("left-over effects: {error}")))
        });
        if left_over.is_err() && matches!(self.standing, Standing::Known) {
            self.standing = Standing::Unsettled;
        }
        left_over
    }

    /// Applies effects one home at a time, then removes them. A crash in between repeats them.
    fn apply_effects(&mut self, waiting: Vec<Waits>) -> Result<(), CommitError> {
        let failed = |this: &mut Self, error| {
            if matches!(this.standing, Standing::Known) {
                this.standing = Standing::Unsettled;
            }
            Err(error)
        };
        let mut removals: Vec<(Home, Batch)> = Vec::new();
        for effect in waiting {
            if let Err(error) = self.apply(effect.batch, &effect.changes) {
                return failed(self, error);
            }
            match removals.last_mut() {
                Some((home, batch)) if *home == effect.home => batch.write(effect.row, None),
                _ => {
                    let mut batch = Batch::default();
                    batch.write(effect.row, None);
                    removals.push((effect.home, batch));
                }
            }
        }
        for (_, batch) in removals {
            if let Err(error) = self.apply(batch, &Changes::default()) {
                return failed(self, error);
            }
        }
        Ok(())
    }

    /// All waiting effects, in the order of their commits.
    fn left_over_effects(&self) -> Result<Vec<Waits>, StorageError> {
        let mut range = RowRange::prefix(&EFFECTS.start());
        let mut waiting = Vec::new();
        loop {
            let page = block_on(self.engine.scan(range.clone(), Direction::Up, Limit::max()))?;
            for (row, value) in &page.rows {
                waiting.push(Waits::read(row, value)?);
            }
            match page.rows.last() {
                Some((row, _)) if page.more => range.start = behind(row.clone()),
                _ => break,
            }
        }
        waiting.sort_by_key(|effect| effect.order);
        Ok(waiting)
    }
}

/// An effect that waits in the home of its commit.
struct Waits {
    home: Home,
    order: (u64, u32),
    row: RowKey,
    batch: Batch,
    changes: Changes,
}

impl Waits {
    fn new(home: Home, order: (u64, u32), row: RowKey, batch: Batch, said: &[Change]) -> Self {
        let mut changes = Changes::default();
        said.iter().for_each(|change| changes.add(change));
        Self { home, order, row, batch, changes }
    }

    fn read(row: &[u8], value: &[u8]) -> Result<Self, StorageError> {
        let row = RowKey { profile: EFFECTS.profile, bytes: row.to_vec() };
        let damaged = |what: &str| EFFECTS.corrupt(&row.bytes, &what);
        let (home, rest) = row.split().ok_or_else(|| damaged("the key has no home"))?;
        let order = key::key_from(rest).map_err(|reason| EFFECTS.corrupt(&row.bytes, &reason))?;
        let effect: StoredEffect = value::from_bytes(value).map_err(|reason| EFFECTS.corrupt(&row.bytes, &reason))?;
        let (batch, said) = effect.read().ok_or_else(|| damaged("a home is damaged"))?;
        Ok(Self::new(home, order, row, batch, &said))
    }
}

/// Commits that are going to be one group.
pub(super) struct Waiting {
    submissions: Vec<Submission>,
    size: Size,
    mixes_homes: bool,
}

impl Waiting {
    pub(super) fn has_room(&self) -> bool {
        self.submissions.len() < GROUP_COMMITS_MAX
            && self.size.rows < GROUP_ROWS_MAX
            && self.size.bytes < GROUP_BYTES_MAX
    }

    /// Adds a commit, or gives it back for the next group.
    pub(super) fn take(&mut self, next: Box<Submission>) -> Result<(), Box<Submission>> {
        let size = next.commit.size();
        let same_home = self.submissions.last().is_none_or(|last| last.commit.home() == next.commit.home());
        if self.size.changes + size.changes > GROUP_CHANGE_BYTES_MAX || !(self.mixes_homes || same_home) {
            return Err(next);
        }
        self.size.rows += size.rows;
        self.size.bytes += size.bytes;
        self.size.changes += size.changes;
        self.submissions.push(*next);
        Ok(())
    }
}

/// What a group is going to write: the commits whose conditions hold, in order.
struct Plan {
    effects: EffectMode,
    number: u64,
    batch: Batch,
    /// None while no commit has written or said anything.
    changes: Option<Changes>,
    waiting: Vec<Waits>,
    next_effect: u32,
}

impl Plan {
    fn new(effects: EffectMode, number: u64) -> Self {
        Self { effects, number, batch: Batch::default(), changes: None, waiting: Vec::new(), next_effect: 0 }
    }

    /// Adds one commit if its conditions hold on what is stored and on what the group has written so far.
    fn add(
        &mut self,
        submission: &mut Submission,
        stored: &HashMap<RowKey, Option<Vec<u8>>>,
    ) -> Result<(), CommitError> {
        let commit = &mut submission.commit;
        let stored = |key: &RowKey| stored.get(key).and_then(Option::as_deref);
        let holds = commit
            .requires
            .iter()
            .all(|require| require.holds(self.batch.value_of(&require.key).unwrap_or_else(|| stored(&require.key))));
        if let Some(mistake) = commit.mistake() {
            return Err(mistake);
        }
        if !holds {
            return Err(CommitError::Conflict);
        }
        if commit.is_touch {
            self.changes.get_or_insert_default();
        }
        let effects = std::mem::take(&mut commit.effects);
        match self.effects {
            EffectMode::Inline => {
                self.batch.append(std::mem::take(&mut commit.batch));
                self.say(&commit.changes);
                for effect in effects {
                    self.say(&effect.changes);
                    self.batch.append(effect.batch);
                }
            }
            EffectMode::Deferred => {
                let stored = effects.iter().map(|effect| value::to_bytes(&StoredEffect::from(effect)));
                let stored: Result<Vec<_>, _> = stored.collect();
                let stored = stored.map_err(|error| CommitError::Invalid(error.to_string()))?;
                self.batch.append(std::mem::take(&mut commit.batch));
                self.say(&commit.changes);
                for (effect, stored) in effects.into_iter().zip(stored) {
                    self.defer(commit.home(), effect, stored);
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, changes: &[Change]) {
        for change in changes {
            self.changes.get_or_insert_default().add(change);
        }
    }

    fn defer(&mut self, home: &Home, effect: Effect, stored: Vec<u8>) {
        let order = (self.number, self.next_effect);
        self.next_effect += 1;
        let row = EFFECTS.row_key(home, &key::bytes_of(&order));
        self.batch.write(row.clone(), Some(stored));
        self.waiting.push(Waits::new(home.clone(), order, row, effect.batch, &effect.changes));
    }
}

/// Waits on this thread, which belongs to no runtime.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
