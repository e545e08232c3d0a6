//! Where a read goes, and why: the contract's table, row by row.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::balance::pool::Pool;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::Gate;
use crate::consistency::scope::{Effect, Scope};
use crate::consistency::scope_state::{Cell, Last};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::replication::position::Position;
use crate::settings::OnUnavailable;
use crate::support::random::unit;

use read_context::{Around, Before, late, row_5};

mod read_context;

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
    Ask(Arc<Cell>),
    /// A member is to be asked for its position, which must be seen, and the question put again: the scope moves on from
    /// there.
    #[error("the position of the member read from last is needed")]
    Learn {
        /// Where the answer belongs.
        cell: Arc<Cell>,
        /// The member.
        last: Alias,
        /// Where the read is to go.
        target: Option<Member>,
    },
    /// A replica is to be waited for, and the question put again.
    #[error("a replica must be waited for")]
    Wait {
        /// Where the outcome belongs.
        cell: Arc<Cell>,
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
enum Mode {
    Decide,
    Explain,
}

/// Answers a question: which member of `cluster` serves the read, now that `view` says who may.
///
/// `draw` are 64 random bits. Who asks for a read that will follow counts
/// the answer.
///
/// # Errors
/// [`Undecided::NoReplicaAvailable`] if no replica may serve and `ON_UNAVAILABLE` or `PRIMARY_SPILL` forbid the primary;
/// [`Undecided::Failed`] with the error of what the question asks; [`Undecided::Ask`], [`Undecided::Learn`] and
/// [`Undecided::Wait`] with what to do before it is put again, unless it `may_wait` no more; [`Undecided::Late`] with what to
/// do before its decision counts.
#[inline]
pub fn decide<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    read: Read<'_, I, C, L, N>,
    draw: u64,
) -> Result<Decision, Undecided<E>>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<Cell>>, E>,
    N: Fn() -> Duration,
{
    answer(cluster, view, read, draw, Mode::Decide)
}

/// What [`decide`] would answer to the same question, without a trace: it is put to copies of all that is remembered.
/// `pinned` also where a server would have to be asked or waited for first.
///
/// # Errors
/// [`Undecided::NoReplicaAvailable`] and [`Undecided::Failed`], as there.
pub fn explain<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    read: Read<'_, I, C, L, N>,
    draw: u64,
) -> Result<Decision, Undecided<E>>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<Cell>>, E>,
    N: Fn() -> Duration,
{
    let Read { exempt, scope, instance, in_transaction, is_changed, record, before, may_wait, now } = read;
    let scope = scope.map(|scope| scope.copied(cluster.name()));
    let record = || Ok(record()?.map(|cell| Arc::new(cell.copied(cluster.name()))));
    let read =
        Read { exempt, scope: scope.as_ref(), instance, in_transaction, is_changed, record, before, may_wait, now };
    match answer(cluster, view, read, draw, Mode::Explain) {
        Err(Undecided::Ask(_) | Undecided::Learn { .. } | Undecided::Wait { .. }) => Ok((PRIMARY, Reason::Pinned)),
        answer => answer.or_else(Undecided::decided),
    }
}

#[inline]
fn answer<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    mut read: Read<'_, I, C, L, N>,
    draw: u64,
    mode: Mode,
) -> Result<Decision, Undecided<E>>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<Cell>>, E>,
    N: Fn() -> Duration,
{
    if read.exempt {
        return Ok((PRIMARY, Reason::Exempt));
    }
    let effect = read.scope.and_then(|scope| scope.effect(cluster.name()));
    if effect == Some(Effect::Primary) {
        return Ok((PRIMARY, Reason::UsePrimary));
    }
    if (read.in_transaction)(PRIMARY)? {
        return Ok((PRIMARY, Reason::Transaction));
    }
    // In a test, replicas that share the primary's connection share its session.
    if (read.is_changed)()? && !cluster.settings().are_mirrors {
        return Ok((PRIMARY, Reason::SessionState));
    }
    let before = match read.before {
        Some(before) if read.scope.is_none() => Before::new(cluster, view, before, (read.now)()),
        _ => None,
    };
    if read.scope.is_none() && read.instance.is_none() && (read.record)()?.is_none() {
        // Nothing around the read has anything to say, and there is nothing to keep its choice.
        if cluster.settings().stays_home() {
            return Ok((PRIMARY, Reason::Default));
        }
        match &before {
            None => {
                let reader = Reader { cluster, view, cell: None, sticky: None, gate: Gate::Open, draw, mode };
                return reader.rows_8_to_11();
            }
            Some(Before { shown, stays: Some(member) }) => {
                return Ok((*member, if shown.in_command { Reason::Sticky } else { Reason::Balanced }));
            }
            Some(_) => {}
        }
    }
    let mut around = Around::new(cluster, view, &read, effect);
    let seen = before.map(|before| before.cell(cluster, &mut around));
    let own;
    let record = if around.in_request {
        read.scope.and_then(Scope::record)
    } else {
        own = (read.record)()?;
        own.as_ref()
    };
    // In a request they are one, but for a body that was suspended and goes on in another request.
    let is_other = |record: &&Arc<Cell>| !around.cell.is_some_and(|cell| Arc::ptr_eq(cell, record));
    let cells = [around.cell.or(seen.as_ref()), record.filter(is_other)];
    let gate = if around.is_free(cluster, view, cells) {
        Gate::Open
    } else if let Some(member) = around.proven(cluster, view, cells)
        && !(read.in_transaction)(member)?
    {
        Gate::Only(member)
    } else {
        let before = around.sticky;
        match row_5(cluster, view, &mut read, &mut around, cells)? {
            Some(gate) => gate,
            None if view.answers(PRIMARY) => return Ok((PRIMARY, Reason::Pinned)),
            None => return late(cluster, view, &around, cells, effect, before, (draw, mode)),
        }
    };
    if let Some(member) = around.named.filter(|&member| gate.admits(member)) {
        around.reads_from(cluster, view, Some(member));
        return Ok((member, Reason::UseReplica));
    }
    if around.follows_primary {
        return Ok((PRIMARY, Reason::Instance));
    }
    if around.stays_home {
        return Ok((PRIMARY, Reason::Default));
    }
    if let Some(from) = around.loaded.filter(|from| view.eligible().contains(from) && gate.admits(*from)) {
        return Ok((from, Reason::Instance));
    }
    if around.last != Last::Sticky {
        around.reads_from(cluster, view, None);
    }
    let Around { cell, sticky, .. } = around;
    Reader { cluster, view, cell, sticky, gate, draw, mode }.rows_8_to_11()
}

/// Whether the pool may hold `member`.
fn is_eligible(cluster: &Cluster, view: &View, member: Member) -> bool {
    view.serves(member) && cluster.weight(member) > 0.0
}

/// One read that has come as far as the pool.
struct Reader<'a> {
    cluster: &'a Cluster,
    view: &'a View,
    /// What the scope remembers.
    cell: Option<&'a Arc<Cell>>,
    sticky: Option<Alias>,
    gate: Gate,
    draw: u64,
    mode: Mode,
}

impl Reader<'_> {
    #[inline]
    fn rows_8_to_11<E>(&self) -> Result<Decision, Undecided<E>> {
        let (cluster, view) = (self.cluster, self.view);
        // The pool may hold the primary alone, which is then no choice.
        let chosen = if view.eligible().is_empty() {
            self.trial().map(|chosen| self.keep(chosen, |&member| is_eligible(cluster, view, member)))
        } else {
            self.choose(view.pool(), |member| is_eligible(cluster, view, member))
        };
        chosen.or_else(|| self.unavailable()).ok_or(Undecided::NoReplicaAvailable)
    }

    /// Rows 8 and 9: the scope's member while it is `eligible`, else one from `pool`.
    fn choose(&self, pool: &Pool, eligible: impl Fn(Member) -> bool) -> Option<Decision> {
        let (cluster, turn) = (self.cluster, self.cluster.turn());
        let may_serve = |&member: &Member| eligible(member) && self.gate.admits(member);
        if let Some(member) = self.sticky.and_then(|alias| cluster.member(alias)).filter(may_serve) {
            return Some((member, Reason::Sticky));
        }
        if let Some(member) = self.trial() {
            return Some(self.keep(member, may_serve));
        }
        let among;
        let pool = match &self.gate {
            Gate::Open => pool,
            Gate::Only(member) => {
                among = self.pool_among(std::slice::from_ref(member));
                &among
            }
            Gate::Among(members) => {
                among = self.pool_among(members);
                &among
            }
        };
        let chosen = match self.mode {
            Mode::Decide => pool.choose(turn, self.draw)?,
            Mode::Explain => pool.preview(turn, self.draw)?,
        };
        Some(self.keep(chosen, may_serve))
    }

    /// The scope sticks to `chosen`.
    fn keep(&self, chosen: Member, may_serve: impl Fn(&Member) -> bool) -> Decision {
        let cluster = self.cluster;
        let Some(cell) = self.cell.filter(|_| cluster.settings().sticky) else {
            return (chosen, Reason::Balanced);
        };
        let memory = cell.of(cluster.name());
        // Two threads of one scope may choose at once; both then read from the first one's choice.
        let winner = memory.stick(self.sticky, cluster.members()[chosen as usize]);
        if winner == cluster.members()[chosen as usize] {
            memory.set_changes(Last::Sticky, self.view.progress().changes(chosen));
        }
        match cluster.member(winner).filter(|member| *member != chosen && may_serve(member)) {
            Some(member) => (member, Reason::Sticky),
            None => (chosen, Reason::Balanced),
        }
    }

    /// Where nobody probes, a member that was out of service is tried by one read.
    #[inline]
    fn trial(&self) -> Option<Member> {
        if !self.view.has_trials() {
            return None;
        }
        // Who must see something cannot be served by one whose progress nobody follows.
        self.view.trial(self.mode == Mode::Decide, |_| self.gate == Gate::Open)
    }

    /// The pool of those who have what must be seen; the primary always has, unless the scope had better stay where it is.
    fn pool_among(&self, members: &[Member]) -> Pool {
        let own = Some(PRIMARY).filter(|&primary| self.view.serves(primary) && matches!(self.gate, Gate::Among(_)));
        self.cluster.pool_of(self.view, members.iter().copied().chain(own))
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
        self.cell.map_or(draw, |cell| cell.of(self.cluster.name()).spill(draw))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
