//! The routing core of django-replicant.
//!
//! The rooms have an order (`docs/architecture.md`), and a room imports only from those below it. All rooms but [`python`]
//! are plain Rust: they know no interpreter, do no I/O, and take the time and randomness as arguments.
//!
//! A read passes through them as follows. [`consistency::scope`] holds what the code around the read asked for, and
//! [`consistency::scope_state`] what the scope requires ([`consistency::requirement`]). [`routing::decide`] applies the
//! routing table; its row 5 finds the members that satisfy the requirement ([`consistency::eligibility`]).
//! [`cluster::view`] holds the members' states, which [`health`] derives from reads, probes and lag, and how far each
//! member is known to have come ([`replication::state`]). [`balance::pool`] chooses a member, and [`support::counters`]
//! count the decision. [`sql`] tells reads from writes, so that a write is known when it happens.

#![cfg_attr(not(feature = "python"), forbid(unsafe_code))]
#![cfg_attr(feature = "python", deny(unsafe_code))]

pub mod alias;
pub mod balance;
pub mod cluster;
pub mod consistency;
pub mod health;
pub mod member;
pub mod reason;
pub mod replication;
pub mod routing;
pub mod settings;
pub mod sql;
pub mod support;

#[cfg(feature = "python")]
pub mod python;
