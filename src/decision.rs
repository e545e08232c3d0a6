//! Where a read goes, and why: the contract's table, row by row.

use std::time::Duration;

use crate::cluster::{Cluster, Home, OnUnavailable, PRIMARY, View};
use crate::memory::{Cell, Memory};
use crate::pool::{Member, Pool};
use crate::random::unit;
use crate::scope::{Effect, Scope};

/// Why a read goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The model is in `PRIMARY_ONLY`.
    Exempt,
    /// The innermost scope is `use_primary`.
    UsePrimary,
    /// The primary's connection is in a transaction.
    Transaction,
    /// This scope wrote, and no replica is known to have it.
    Pinned,
    /// The innermost scope names a replica.
    UseReplica,
    /// The instance at hand came from there.
    Instance,
    /// The scope already reads from there.
    Sticky,
    /// Chosen by weight.
    Balanced,
    /// Reads do not go to replicas here.
    Default,
    /// No replica may serve.
    Unavailable,
}

impl Reason {
    /// Every reason, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::Exempt,
        Self::UsePrimary,
        Self::Transaction,
        Self::Pinned,
        Self::UseReplica,
        Self::Instance,
        Self::Sticky,
        Self::Balanced,
        Self::Default,
        Self::Unavailable,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The code that users see.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Exempt => "exempt",
            Self::UsePrimary => "use_primary",
            Self::Transaction => "transaction",
            Self::Pinned => "pinned",
            Self::UseReplica => "use_replica",
            Self::Instance => "instance",
            Self::Sticky => "sticky",
            Self::Balanced => "balanced",
            Self::Default => "default",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Where a read goes, and why.
pub type Decision = (Member, Reason);

/// Why there is no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided<E> {
    /// No replica may serve, and the cluster's policy does not let this read through to the primary.
    #[error("no replica may serve this read, and the policy keeps it off the primary")]
    NoReplicaAvailable,
    /// What had to be found out could not be.
    #[error(transparent)]
    Failed(#[from] E),
}

/// An instance the read is asked for, loaded from a member of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The member it was loaded from.
    pub from: Member,
    /// Whether its own model is always read from the primary, so that its origin says nothing.
    pub exempt: bool,
}

/// A question, as far as it does not concern the cluster. What costs time to find out is asked only when the
/// answer matters.
#[derive(Debug)]
pub struct Read<'a, InTransaction, Record, Now> {
    /// The model is in `PRIMARY_ONLY`.
    pub exempt: bool,
    /// The innermost scope.
    pub scope: Option<&'a Scope>,
    /// `hints["instance"]`, if a member of this cluster loaded it.
    pub instance: Option<Loaded>,
    /// Whether this thread's connection to the primary is in a transaction.
    pub in_transaction: InTransaction,
    /// With no request open: when this thread or task last wrote to the cluster.
    pub last_write: Record,
    /// The time since the clock's origin.
    pub now: Now,
}

/// Whether a question leaves traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A read will follow: the scope sticks to the choice.
    Decide,
    /// `explain`: nothing is changed.
    Explain,
}

/// Answers a question: which member of `cluster` serves the read, now that `view` says who may.
///
/// `draw` are 64 random bits. Who asks for a read that will follow counts
/// the answer.
///
/// # Errors
/// [`Undecided::NoReplicaAvailable`] if no replica may serve and `ON_UNAVAILABLE` or `PRIMARY_SPILL` forbid the primary;
/// [`Undecided::Failed`] with the error of what the question asks.
#[inline]
pub fn decide<I, L, N, E>(
    cluster: &Cluster,
    view: &View,
    read: Read<'_, I, L, N>,
    draw: u64,
    mode: Mode,
) -> Result<Decision, Undecided<E>>
where
    I: FnOnce() -> Result<bool, E>,
    L: FnOnce() -> Result<Option<Duration>, E>,
    N: FnOnce() -> Duration,
{
    let settings = cluster.settings();
    let effect = read.scope.and_then(|scope| scope.effect(cluster.name()));
    let in_request = read.scope.is_some_and(Scope::in_request);
    if read.exempt {
        return Ok((PRIMARY, Reason::Exempt));
    }
    if effect == Some(Effect::Primary) {
        return Ok((PRIMARY, Reason::UsePrimary));
    }
    if (read.in_transaction)()? {
        return Ok((PRIMARY, Reason::Transaction));
    }
    let (named, stale_ok) = match effect {
        Some(Effect::Replica { member, stale_ok }) => (member, stale_ok),
        _ => (None, false),
    };
    if let Some(pin) = settings.pin.filter(|_| !stale_ok) {
        // Inside a request the pin lasts until the scope ends; outside one it has to end by itself.
        let pinned = if in_request {
            read.scope.and_then(Scope::record).is_some_and(|record| last_write(record, cluster).is_some())
        } else {
            (read.last_write)()?.is_some_and(|written| (read.now)().saturating_sub(written) < pin)
        };
        if pinned {
            return Ok((PRIMARY, Reason::Pinned));
        }
    }
    let migrating = read.scope.is_some_and(Scope::migrating);
    if let Some(member) = named.and_then(|alias| cluster.member(alias)).filter(|_| !migrating)
        && view.serves(member)
    {
        return Ok((member, Reason::UseReplica));
    }
    if let Some(instance) = read.instance
        && instance.from == PRIMARY
        && !instance.exempt
        && effect.is_none()
    {
        return Ok((PRIMARY, Reason::Instance));
    }
    let asked = effect.is_some();
    let home = if in_request || settings.reads == Home::Primary { settings.reads } else { settings.outside_requests };
    if migrating || settings.replicas.is_empty() || !(asked || home == Home::Replica) {
        return Ok((PRIMARY, Reason::Default));
    }
    if let Some(instance) = read.instance
        && read.scope.is_none()
        && view.eligible().contains(&instance.from)
    {
        return Ok((instance.from, Reason::Instance));
    }
    let reader = Reader { cluster, view, scope: read.scope, draw, mode };
    let eligible = |member| view.serves(member) && cluster.weight(member) > 0.0;
    // The pool may hold the primary alone, which is then no choice.
    let chosen = if view.eligible().is_empty() { None } else { reader.choose(view.pool(), eligible) };
    chosen.or_else(|| reader.unavailable()).ok_or(Undecided::NoReplicaAvailable)
}

/// When the holder of `record` last wrote to `cluster`.
#[must_use]
pub fn last_write(record: &Cell, cluster: &Cluster) -> Option<Duration> {
    record.get(cluster.name()).and_then(Memory::written)
}

/// One read that has come as far as the pool.
struct Reader<'a> {
    cluster: &'a Cluster,
    view: &'a View,
    scope: Option<&'a Scope>,
    draw: u64,
    mode: Mode,
}

impl Reader<'_> {
    /// Rows 8 and 9: the scope's member while it is `eligible`, else one from `pool`.
    fn choose(&self, pool: &Pool, eligible: impl Fn(Member) -> bool) -> Option<Decision> {
        let cell = self.scope.filter(|_| self.cluster.settings().sticky).map(Scope::cell);
        let sticky = cell.and_then(|cell| cell.get(self.cluster.name())).and_then(Memory::sticky);
        if let Some(member) = sticky.and_then(|alias| self.cluster.member(alias)).filter(|&member| eligible(member)) {
            return Some((member, Reason::Sticky));
        }
        if self.mode == Mode::Explain {
            return Some((pool.preview(self.cluster.turn(), self.draw)?, Reason::Balanced));
        }
        let chosen = pool.choose(self.cluster.turn(), self.draw)?;
        let Some(cell) = cell else { return Some((chosen, Reason::Balanced)) };
        // Two threads of one scope may choose at once; both then read from the first one's choice.
        let winner = cell.of(self.cluster.name()).stick(sticky, self.cluster.members()[chosen as usize]);
        match self.cluster.member(winner).filter(|&member| member != chosen && eligible(member)) {
            Some(member) => Some((member, Reason::Sticky)),
            None => Some((chosen, Reason::Balanced)),
        }
    }

    /// Row 11: `None` if the read is refused.
    fn unavailable(&self) -> Option<Decision> {
        let settings = self.cluster.settings();
        match settings.on_unavailable {
            OnUnavailable::Replica => {
                let (cluster, view) = (self.cluster, self.view);
                let answers = |member| member != PRIMARY && view.answers(member) && cluster.weight(member) > 0.0;
                // Not even a late one: a request must not fail for a replica's sake.
                let member = self.choose(view.late(), answers).map_or(PRIMARY, |(member, _)| member);
                Some((member, Reason::Unavailable))
            }
            OnUnavailable::Primary if settings.primary_spill >= 1.0 || self.spill() < settings.primary_spill => {
                Some((PRIMARY, Reason::Unavailable))
            }
            OnUnavailable::Primary | OnUnavailable::Error => None,
        }
    }

    /// This scope's draw from 0 to 1, so that either all of its reads are let through or none.
    fn spill(&self) -> f64 {
        let draw = unit(self.draw);
        match (self.scope.map(Scope::cell), self.mode) {
            (None, _) => draw,
            (Some(cell), Mode::Decide) => cell.of(self.cluster.name()).spill(draw),
            (Some(cell), Mode::Explain) => cell.get(self.cluster.name()).and_then(Memory::drawn_spill).unwrap_or(draw),
        }
    }
}

#[cfg(test)]
mod tests;
