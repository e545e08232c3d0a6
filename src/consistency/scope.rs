//! Scopes: what a block of code asked for, and where its state is kept.
//!
//! A [`Scope`] is an immutable node that points to the one around it; a context variable holds the innermost. What
//! everything inside a request shares at once (the sticky replica, the writes) is in a [`ScopeState`] that the node
//! points to, because a child task or a worker thread does not hand a changed context variable back.

use std::sync::Arc;

use crate::alias::Alias;
use crate::consistency::scope_state::ScopeState;

/// The effect of a scope on the reads inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `use_primary`.
    Primary,
    /// `use_replica`.
    Replica {
        /// The replica that the scope names.
        member: Option<Alias>,
        /// Positions and time pins are ignored.
        stale_ok: bool,
    },
}

/// The kind of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request, or what a task runner treats as one.
    Request,
    /// `manage.py migrate`: every read belongs to the primary.
    Migrate,
    /// `use_primary` or `use_replica`, of one cluster (named by its primary) or of all.
    Use(Option<Alias>, Effect),
}

/// Identifies the entry of a scope, so that leaving removes the right one. Numbers are never used twice.
pub type Owner = u64;

/// One entered scope and, through `parent`, all those around it.
#[derive(Debug)]
pub struct Scope {
    owner: Owner,
    kind: Kind,
    parent: Option<Arc<Scope>>,
    /// The effects in force here, innermost first; `None` stands for every cluster.
    effects: Box<[(Option<Alias>, Effect)]>,
    in_request: bool,
    migrating: bool,
    /// The state that reads use: the request's, else the outermost scope's.
    state: Arc<ScopeState>,
    /// The state that writes use: the request's. With no request open the thread or task keeps its own.
    record: Option<Arc<ScopeState>>,
}

impl Scope {
    /// Enters a scope inside `parent`.
    #[must_use]
    pub fn enter(parent: Option<Arc<Self>>, owner: Owner, kind: Kind) -> Arc<Self> {
        Self::build(parent, owner, kind, None)
    }

    fn build(parent: Option<Arc<Self>>, owner: Owner, kind: Kind, scope_state: Option<Arc<ScopeState>>) -> Arc<Self> {
        let outer = parent.as_deref();
        let in_request = kind == Kind::Request || outer.is_some_and(|scope| scope.in_request);
        let (scope_state, record) = if kind == Kind::Request {
            // One state for both: the sticky choice of a request, and its writes.
            let own = scope_state.unwrap_or_default();
            (own.clone(), Some(own))
        } else {
            let around = || outer.map_or_else(Arc::default, |scope| scope.state.clone());
            (scope_state.unwrap_or_else(around), outer.and_then(|scope| scope.record.clone()))
        };
        let mut effects = Vec::new();
        if let Kind::Use(cluster, effect) = kind {
            effects.push((cluster, effect));
        }
        for &(cluster, effect) in outer.map_or(&[][..], |scope| &scope.effects) {
            // An effect shadowed by an inner one is dropped, so that recursion cannot make the list grow.
            if !effects.iter().any(|&(inner, _)| inner.is_none() || inner == cluster) {
                effects.push((cluster, effect));
            }
        }
        let migrating = kind == Kind::Migrate || outer.is_some_and(|scope| scope.migrating);
        Arc::new(Self {
            owner,
            kind,
            effects: effects.into(),
            in_request,
            migrating,
            state: scope_state,
            record,
            parent,
        })
    }

    /// The scopes that stay when `owner` leaves: the innermost scope that `owner` entered is taken out.
    ///
    /// Usually that is `scope` itself. A `with` block in a suspended generator is left in another order; then those
    /// entered since stay, around what was outside. Returns `scope` unchanged if `owner` entered none of them.
    #[must_use]
    pub fn leave(scope: &Arc<Self>, owner: Owner) -> Option<Arc<Self>> {
        if scope.owner == owner {
            return scope.parent.clone();
        }
        let mut above = vec![scope];
        let mut next = scope.parent.as_ref();
        while let Some(found) = next {
            if found.owner == owner {
                return above.into_iter().rev().fold(found.parent.clone(), |parent, kept| Some(kept.moved_to(parent)));
            }
            above.push(found);
            next = found.parent.as_ref();
        }
        Some(scope.clone())
    }

    /// The scopes that a suspended body had open, resumed inside `parent`: the innermost scope that `owner` entered and
    /// everything inside it up to `scope`. `None` if `owner` entered none of them.
    #[must_use]
    pub fn resume(scope: &Arc<Self>, owner: Owner, parent: Option<Arc<Self>>) -> Option<Arc<Self>> {
        let mut own = vec![scope];
        while own.last()?.owner != owner {
            own.push(own.last()?.parent.as_ref()?);
        }
        let same = |outer: &Arc<Self>| parent.as_ref().is_some_and(|parent| Arc::ptr_eq(outer, parent));
        if own.last()?.parent.as_ref().map_or(parent.is_none(), same) {
            return Some(scope.clone());
        }
        own.into_iter().rev().fold(parent, |parent, kept| Some(kept.moved_to(parent)))
    }

    /// The same scope with another one around it; it keeps its state.
    fn moved_to(&self, parent: Option<Arc<Self>>) -> Arc<Self> {
        Self::build(parent, self.owner, self.kind, Some(self.state.clone()))
    }

    /// The same scope with copies of its states of `cluster`.
    #[must_use]
    pub fn copied(&self, cluster: Alias) -> Self {
        let scope_state = Arc::new(self.state.copied(cluster));
        let copy = |record: &Arc<ScopeState>| {
            if Arc::ptr_eq(record, &self.state) { scope_state.clone() } else { Arc::new(record.copied(cluster)) }
        };
        Self {
            owner: self.owner,
            kind: self.kind,
            parent: None,
            effects: self.effects.clone(),
            in_request: self.in_request,
            migrating: self.migrating,
            record: self.record.as_ref().map(copy),
            state: scope_state,
        }
    }

    /// The effect of the innermost scope that concerns `cluster`.
    #[inline]
    #[must_use]
    pub fn effect(&self, cluster: Alias) -> Option<Effect> {
        self.effects.iter().find(|(reach, _)| reach.is_none_or(|named| named == cluster)).map(|&(_, effect)| effect)
    }

    /// Whether a request scope is open.
    #[must_use]
    pub fn in_request(&self) -> bool {
        self.in_request
    }

    /// Whether `migrate` runs.
    #[must_use]
    pub fn migrating(&self) -> bool {
        self.migrating
    }

    /// The state that reads use here.
    #[must_use]
    pub fn scope_state(&self) -> &Arc<ScopeState> {
        &self.state
    }

    /// The state that writes use here, if a request is open.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<ScopeState>> {
        self.record.as_ref()
    }
}

impl Drop for Scope {
    /// Drops the scopes around one at a time: code that enters and never leaves would otherwise overflow the stack.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut scope) = next.and_then(Arc::into_inner) {
            next = scope.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: Alias = Alias::from_number(1);
    const TWO: Alias = Alias::from_number(2);
    const REPLICA: Effect = Effect::Replica { member: None, stale_ok: false };

    fn primary(cluster: Option<Alias>) -> Kind {
        Kind::Use(cluster, Effect::Primary)
    }

    fn replica(cluster: Option<Alias>) -> Kind {
        Kind::Use(cluster, REPLICA)
    }

    #[test]
    fn the_innermost_scope_wins() {
        let outer = Scope::enter(None, 1, primary(None));
        let inner = Scope::enter(Some(outer.clone()), 2, replica(None));
        assert_eq!(inner.effect(ONE), Some(REPLICA));
        assert_eq!(Scope::leave(&inner, 2).unwrap().effect(ONE), Some(Effect::Primary));
        assert!(Scope::leave(&outer, 1).is_none());
    }

    #[test]
    fn a_scope_of_one_cluster_leaves_the_others_alone() {
        let outer = Scope::enter(None, 1, primary(None));
        let inner = Scope::enter(Some(outer), 2, replica(Some(ONE)));
        assert_eq!((inner.effect(ONE), inner.effect(TWO)), (Some(REPLICA), Some(Effect::Primary)));
    }

    #[test]
    fn deep_nesting_keeps_the_list_of_effects_short() {
        let mut scope = None;
        for owner in 0..1000 {
            scope = Some(Scope::enter(scope, owner, if owner % 2 == 0 { primary(None) } else { replica(Some(ONE)) }));
        }
        assert!(scope.unwrap().effects.len() <= 2);
    }

    #[test]
    fn leaving_out_of_order_removes_the_right_scope() {
        let generator = Scope::enter(None, 1, replica(None));
        let around = Scope::enter(Some(generator), 2, primary(None));
        let left = Scope::leave(&around, 1).unwrap();
        assert_eq!(left.effect(ONE), Some(Effect::Primary));
        assert!(Scope::leave(&left, 2).is_none());
    }

    #[test]
    fn leaving_a_scope_that_is_not_open_changes_nothing() {
        let scope = Scope::enter(None, 1, replica(None));
        assert!(Arc::ptr_eq(&Scope::leave(&scope, 9).unwrap(), &scope));
    }

    #[test]
    fn a_request_has_a_cell_of_its_own_and_the_outermost_scope_otherwise() {
        let outer = Scope::enter(None, 1, replica(None));
        let inner = Scope::enter(Some(outer.clone()), 2, primary(None));
        assert!(Arc::ptr_eq(outer.scope_state(), inner.scope_state()));
        assert!(inner.record().is_none());
        let request = Scope::enter(Some(inner), 3, Kind::Request);
        assert!(!Arc::ptr_eq(outer.scope_state(), request.scope_state()));
        let view = Scope::enter(Some(request.clone()), 4, replica(None));
        assert!(Arc::ptr_eq(request.scope_state(), view.scope_state()));
        assert!(view.in_request() && !outer.in_request());
        assert!(Arc::ptr_eq(request.record().unwrap(), view.record().unwrap()));
    }

    #[test]
    fn a_moved_request_keeps_its_record() {
        let generator = Scope::enter(None, 1, replica(None));
        let request = Scope::enter(Some(generator), 2, Kind::Request);
        request.record().unwrap().of(ONE).requirement(|requirement| requirement.publish(None, Duration::ZERO));
        let moved = Scope::leave(&request, 1).unwrap();
        assert!(moved.in_request() && moved.effect(ONE).is_none());
        assert!(moved.record().unwrap().of(ONE).has_requirement());
    }

    #[test]
    fn a_body_resumed_elsewhere_keeps_what_it_had_open() {
        let body = Scope::enter(None, 1, replica(None));
        body.scope_state().of(ONE).stick(None, TWO);
        let inner = Scope::enter(Some(body.clone()), 2, primary(None));
        assert!(Arc::ptr_eq(&Scope::resume(&inner, 1, None).unwrap(), &inner));
        let request = Scope::enter(None, 3, Kind::Request);
        let resumed = Scope::resume(&inner, 1, Some(request.clone())).unwrap();
        assert_eq!(resumed.effect(ONE), Some(Effect::Primary));
        assert!(resumed.in_request() && Arc::ptr_eq(resumed.record().unwrap(), request.record().unwrap()));
        assert_eq!(resumed.scope_state().of(ONE).sticky(), Some(TWO));
        assert_eq!(Scope::leave(&resumed, 2).unwrap().effect(ONE), Some(REPLICA));
        assert!(Scope::resume(&request, 1, None).is_none());
    }

    #[test]
    fn scopes_never_left_do_not_overflow_the_stack() {
        let mut scope = None;
        for owner in 0..1_000_000 {
            scope = Some(Scope::enter(scope, owner, replica(None)));
        }
        drop(scope);
    }
}
