//! What is asked of the router, and what it may answer.

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

/// Why there is no decision.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Undecided<E> {
    /// No replica may serve, and the cluster's policy does not let this read through to the primary.
    #[error("no replica may serve this read, and the policy keeps it off the primary")]
    NoReplicaAvailable,
    /// What had to be found out could not be.
    #[error(transparent)]
    Failed(#[from] E),
    /// The primary is to be asked for its position, and the question put again.
    #[error("the primary's position is needed")]
    Ask(Arc<ScopeState>),
    /// A member is to be asked for its position, which must be seen, and the question put again: the scope moves on from
    /// there.
    #[error("the position of the member read from last is needed")]
    Learn {
        /// Where the answer belongs.
        scope_state: Arc<ScopeState>,
        /// The member.
        last: Alias,
        /// Where the read is to go.
        target: Option<Member>,
    },
    /// A replica is to be waited for, and the question put again.
    #[error("a replica must be waited for")]
    Wait {
        /// Where the outcome belongs.
        scope_state: Arc<ScopeState>,
        /// The replica.
        member: Member,
        /// What it must have.
        position: Position,
        /// The longest time to wait.
        longest: Duration,
    },
    /// The primary is down, no replica is known to have what must be seen, and the policy has this member serve all the same.
    /// People are to be told; then it is a decision: [`Undecided::decided`].
    #[error("the primary is down, and a replica serves late data")]
    Late(Member),
}

impl<E> Undecided<E> {
    /// The decision that this is once people were told.
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

/// An instance the read is asked for, loaded from a member of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The member it was loaded from.
    pub from: Member,
    /// Whether its own model is always read from the primary, so that its origin says nothing.
    pub exempt: bool,
}

/// What a thread or task has read with no scope open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The member that was read from last.
    pub by: Alias,
    /// When it had answered.
    pub at: Duration,
    /// A management command runs: it reads from one member as a scope does, and not as it happens to be balanced.
    pub in_command: bool,
}

/// A question, as far as it does not concern the cluster. What costs time to find out is asked only when the
/// answer matters.
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
    /// With no request open: what this thread or task must see.
    pub record: Record,
    /// With no scope open: the member that this thread or task read from last, and when. Another member serves it only once
    /// it has what that one may have shown; and when all of them have that, it is forgotten. A scope remembers the like
    /// in its cell.
    pub before: Option<Shown>,
    /// Whether this thread can ask a server, and wait for it.
    pub may_wait: bool,
    /// The time since the clock's origin.
    pub now: Now,
}

/// Whether the pool gives away a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Decide,
    /// It does not: nothing is sent.
    Explain,
}
