//! The question that the router decides, and its answers.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::consistency::scope::Scope;
use crate::consistency::scope_state::ScopeState;
use crate::member::Member;
use crate::reason::Reason;
use crate::replication::position::Position;

/// Where a read goes, and why.
pub type Decision = (Member, Reason);

/// Why there is no decision yet, or none at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Undecided<E> {
    /// No replica is eligible, and the settings keep this read off the primary.
    #[error("no replica may serve this read, and the policy keeps it off the primary")]
    NoReplicaAvailable,
    /// Something that the question asks could not be found out.
    #[error(transparent)]
    Failed(#[from] E),
    /// The primary must be queried for its position; then decide again.
    #[error("the primary's position is needed")]
    Ask(Arc<ScopeState>),
    /// The member that the scope read from last must be queried for its position, which becomes part of the requirement
    /// because the scope moves on from there; then decide again.
    #[error("the position of the member read from last is needed")]
    Learn {
        /// The state that the answer belongs to.
        scope_state: Arc<ScopeState>,
        /// The member.
        last: Alias,
        /// The member that the read is to go to.
        target: Option<Member>,
    },
    /// A replica must be waited for; then decide again.
    #[error("a replica must be waited for")]
    Wait {
        /// The state that the outcome belongs to.
        scope_state: Arc<ScopeState>,
        /// The replica.
        member: Member,
        /// The position to wait for.
        position: Position,
        /// The longest time to wait.
        longest: Duration,
    },
    /// The primary is down, no replica is known to satisfy the requirement, and by the settings this member serves late
    /// data. That must be logged and signalled; then it is a decision: [`Undecided::decided`].
    #[error("the primary is down, and a replica serves late data")]
    Late(Member),
}

impl<E> Undecided<E> {
    /// The decision that [`Undecided::Late`] becomes once it was reported.
    ///
    /// # Errors
    /// Itself, if it is none.
    pub fn decided(self) -> Result<Decision, Self> {
        match self {
            Self::Late(member) => Ok((member, Reason::Unavailable)),
            why => Err(why),
        }
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

/// A read to be decided. What takes time to find out is a function that is called only if the answer matters.
#[derive(Debug)]
pub struct Read<'a, InTransaction, Changed, Record, Now> {
    /// The model is in `PRIMARY_ONLY`.
    pub exempt: bool,
    /// The innermost scope.
    pub scope: Option<&'a Scope>,
    /// `hints["instance"]`, if a member of this cluster loaded it.
    pub instance: Option<Loaded>,
    /// Whether this thread's connection to a member is in a transaction.
    pub in_transaction: InTransaction,
    /// Whether this thread's session with the primary was changed so that a read has another meaning there.
    pub is_changed: Changed,
    /// With no request open: the state of this thread or task.
    pub record: Record,
    /// With no scope open: the member that this thread or task read from last, and when. Another member serves it only
    /// once it has what that one may have shown. When all of them have that, it is forgotten. A scope keeps the like in
    /// its state.
    pub before: Option<Shown>,
    /// Whether this thread may query a server, and wait for it.
    pub may_wait: bool,
    /// The time since the clock's origin.
    pub now: Now,
}

/// Whether a read follows, so that the pool gives away a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A read follows.
    Decide,
    /// Nothing is sent.
    Explain,
}
