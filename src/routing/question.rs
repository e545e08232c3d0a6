//! The question that the router decides, and its answers.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::consistency::scope::Scope;
use crate::consistency::scope_state::ScopeState;
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::replication::position::Position;

/// Where a read goes, and why.
pub type Decision = (Member, Reason);

/// The next step of a read. The caller performs it, and decides again unless the read is decided.
#[derive(Clone, Debug)]
pub enum Step {
    /// The read goes to this member, for this reason.
    Decided(Member, Reason),
    /// The primary is down, no replica is known to satisfy the requirement, and by the settings this member serves late
    /// data: the read goes there as soon as that was reported.
    ServeLate(Member),
    /// Query the primary for its position, and record the answer in this state.
    QueryPrimaryPosition(Arc<ScopeState>),
    /// Query the member that the scope read from last for its position, which becomes part of the requirement because
    /// the scope moves on from there.
    QueryMemberPosition {
        /// The state that the answer belongs to.
        scope_state: Arc<ScopeState>,
        /// The member.
        last: Alias,
        /// The member that the read is to go to.
        target: Option<Member>,
    },
    /// Wait for a replica, and record the outcome.
    WaitForReplica {
        /// The state that the outcome belongs to.
        scope_state: Arc<ScopeState>,
        /// The replica.
        member: Member,
        /// The position to wait for.
        position: Position,
        /// The longest time to wait.
        longest: Duration,
    },
    /// No replica is eligible, and the settings keep this read off the primary.
    NoReplica,
}

impl Step {
    /// The read goes to the primary.
    #[inline]
    #[must_use]
    pub const fn primary(reason: Reason) -> Self {
        Self::Decided(PRIMARY, reason)
    }
}

/// `hints["instance"]`, loaded from a member of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The member it was loaded from.
    pub from: Member,
    /// Whether its own model is in `PRIMARY_ONLY`, so that its origin says nothing.
    pub exempt: bool,
}

/// The last read of a thread or task with no scope open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The member that was read from last.
    pub by: Alias,
    /// When it had answered.
    pub at: Duration,
    /// A management command runs, which reads from one member as a scope does.
    pub in_command: bool,
}

/// A read to be decided.
#[derive(Debug)]
pub struct Read<'a, C> {
    /// The model is in `PRIMARY_ONLY`.
    pub exempt: bool,
    /// The innermost scope.
    pub scope: Option<&'a Scope>,
    /// `hints["instance"]`, if a member of this cluster loaded it.
    pub instance: Option<Loaded>,
    /// With no scope open: the member that this thread or task read from last, and when. Another member serves it only
    /// once it has what that one may have shown. When all of them have that, it is forgotten. A scope keeps the like in
    /// its state.
    pub before: Option<Shown>,
    /// Whether this thread may query a server, and wait for it.
    pub may_wait: bool,
    /// The thread or task that reads.
    pub caller: &'a C,
}

/// The thread or task that reads. Its answers take time, and are asked for only if they matter.
pub trait Caller {
    /// The error of an answer.
    type Error;

    /// Whether this thread's connection to a member is in a transaction.
    ///
    /// # Errors
    /// If that cannot be found out; so for the others.
    fn in_transaction(&self, member: Member) -> Result<bool, Self::Error>;

    /// Whether this thread's session with the primary was changed so that a read has another meaning there.
    #[expect(clippy::missing_errors_doc, reason = "as for the first")]
    fn is_changed(&self) -> Result<bool, Self::Error>;

    /// With no request open: the state of this thread or task.
    #[expect(clippy::missing_errors_doc, reason = "as for the first")]
    fn record(&self) -> Result<Option<Arc<ScopeState>>, Self::Error>;

    /// The time since the clock's origin.
    fn now(&self) -> Duration;
}

/// Whether a read follows, so that the pool gives away a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A read follows.
    Decide,
    /// Nothing is sent.
    Explain,
}
