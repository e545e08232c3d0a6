//! The state of a thread: its snapshot of the table and the views, its generator, its shard of the counters, its last
//! decision.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use pyo3::types::PyString;
use rand::Rng;

use crate::alias::Alias;
use crate::cluster::view::View;
use crate::member::Member;
use crate::reason::Reason;
use crate::settings::OnUnavailable;
use crate::support::counters::Shard;
use crate::support::random::{Draws, Generation};
use crate::support::snapshot::Kept;

use super::ffi::attached::attached;
use super::model_cache::ModelCache;
use super::table::{self, TABLE, Table};

static FORKS: Generation = Generation::new();

/// Every generator from before the fork is stale; called in the child.
pub fn forked() {
    FORKS.advance();
}

/// The state of a thread. A decision touches nothing that other threads write to.
pub struct Thread {
    snapshot: Cell<Option<Box<Snapshot>>>,
    draws: RefCell<Draws>,
    pub shard: Shard,
    /// The last decision, for the tracker of the statement that follows it.
    pub last: Cell<Option<LastDecision>>,
    /// The last decision that a tracker has taken.
    taken: Cell<Option<LastDecision>>,
    /// The answer to the last pinned read, where replicas may serve late data if the primary is down.
    pinned: Cell<Option<Py<PyString>>>,
}

/// A decision: its cluster, and for a read where it went and why.
#[derive(Clone, Copy, Debug)]
pub enum LastDecision {
    Read(Alias, Member, Reason),
    Write(Alias),
}

/// The table in force, and a view of each of its clusters.
#[derive(Debug)]
pub struct Snapshot {
    table: Kept<Option<Table>>,
    views: Box<[Kept<View>]>,
    models: ModelCache,
}

thread_local! {
    static THREAD: Thread = Thread {
        snapshot: Cell::new(None),
        draws: RefCell::new(Draws::from_system(&FORKS)),
        shard: Shard::claim(),
        last: const { Cell::new(None) },
        taken: const { Cell::new(None) },
        pinned: const { Cell::new(None) },
    };
}

/// Runs `work` with the state of this thread.
#[inline]
pub fn with_thread<T>(work: impl FnOnce(&Thread) -> T) -> T {
    THREAD.with(work)
}

impl Thread {
    /// 64 random bits.
    #[inline]
    pub fn draw(&self) -> u64 {
        self.draws.borrow_mut().get(&FORKS).next_u64()
    }

    /// The bits that will be drawn next.
    pub fn preview(&self) -> u64 {
        self.draws.borrow().preview().next_u64()
    }

    /// Takes the last decision, for the tracker of the statement that follows it.
    pub fn take_decision(&self) -> Option<LastDecision> {
        let last = self.last.take();
        self.taken.set(last);
        last
    }

    /// The last decision, whether or not it was taken.
    pub fn last_decision(&self) -> Option<LastDecision> {
        self.last.get().or_else(|| self.taken.get())
    }

    /// The answer to a read that only the primary may serve: its alias.
    ///
    /// Where replicas may serve late data if the primary is down, each answer is another string object. The statement
    /// that is sent for this decision carries it, and can thus be distinguished from a statement that names the primary
    /// itself.
    #[cold]
    #[inline(never)]
    pub fn pin<'py>(&self, alias: &Bound<'py, PyString>, policy: OnUnavailable) -> Bound<'py, PyString> {
        self.pinned.set(None);
        if policy != OnUnavailable::Replica {
            return alias.clone();
        }
        let answer = PyString::new(alias.py(), &alias.to_string_lossy());
        // CPython has one object for each string of one character: such a statement cannot be distinguished.
        if !answer.is(alias) {
            self.pinned.set(Some(answer.clone().unbind()));
        }
        answer
    }

    /// The string object that [`Self::pin`] returned last.
    pub fn pinned(&self, py: Python<'_>) -> Option<Py<PyString>> {
        let answer = self.pinned.take();
        self.pinned.set(answer.as_ref().map(|answer| answer.clone_ref(py)));
        answer
    }

    /// The last decision was for a read that continues on another member: no other statement is sent for it.
    pub fn unpin(&self) {
        self.pinned.set(None);
    }

    /// This thread's snapshot, brought up to date.
    #[inline]
    pub fn snapshot(&self, py: Python<'_>) -> PyResult<Held<'_>> {
        match self.snapshot.take() {
            Some(snapshot) if snapshot.table.is_present(&TABLE) => Ok(Held { thread: self, snapshot: Some(snapshot) }),
            past => attached(py, |py| self.another_snapshot(py, past)),
        }
    }

    fn another_snapshot(&self, py: Python<'_>, past: Option<Box<Snapshot>>) -> PyResult<Held<'_>> {
        // It may hold the last reference to its table, and the strings and models of the table are Python objects.
        drop(past);
        loop {
            let table = Kept::new(&TABLE);
            if let Some(present) = table.value() {
                let views = present.entries.iter().map(|entry| Kept::new(entry.cluster.shared_view())).collect();
                return Ok(Held {
                    thread: self,
                    snapshot: Some(Box::new(Snapshot { table, views, models: ModelCache::default() })),
                });
            }
            table::build(py)?;
        }
    }
}

/// A thread's snapshot, for one decision.
///
/// It is taken out and put back, and not borrowed: a decision may run Python, which may cause another decision and find
/// that the settings have changed.
pub struct Held<'thread> {
    thread: &'thread Thread,
    snapshot: Option<Box<Snapshot>>,
}

impl Held<'_> {
    /// The table, each cluster's view, and the places of models.
    #[inline]
    pub fn parts(&mut self) -> (&Table, &mut [Kept<View>], &mut ModelCache) {
        let Snapshot { table, views, models } = &mut **self.snapshot.as_mut().expect("put back only when dropped");
        (table.value().as_ref().expect("made only of a table that is there"), views, models)
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.thread.snapshot.set(self.snapshot.take());
    }
}

/// Seeds this thread's generator, or with `None` lets the operating system do it.
pub fn seed(seed: Option<u64>) {
    let draws = seed.map_or_else(|| Draws::from_system(&FORKS), |seed| Draws::seeded(seed, &FORKS));
    with_thread(|thread| thread.draws.replace(draws));
}

/// 32 random bits drawn by this thread.
pub fn draw() -> u32 {
    with_thread(|thread| (thread.draw() >> 32) as u32)
}
