//! The routing core of django-replicant.
//!
//! Dependencies point one way: the modules below know no Python, do no I/O and own neither a clock nor randomness
//! (both are arguments); [`python`] is the only room that knows the interpreter.
//!
//! A read passes through them in this order: [`scope`] says what the code around it asked for and [`memory`] what it
//! must see ([`need`]); [`decision`] goes through the contract's table, with row 5 in [`gate`]; [`cluster`] knows who may
//! serve, [`progress`] how far each member is known to be, and [`pace`] how fast; [`pool`] chooses, and [`counters`] remember. Who may serve
//! follows from what becomes of reads and probes ([`health`], over a [`window`]), from how far behind a replica is ([`lag`]), from what it must have when it returns ([`admission`])
//! and from the others ([`ward`]); [`latency`] says how long they take to answer. [`statement`]
//! tells reads from writes, so that a write is known when it happens, and a [`position`] says how far a server must have
//! come to have it. What is replaced while it is read is [`shared`], and [`clock`] puts the moments of Python's clock on
//! ours.

#![cfg_attr(not(feature = "python"), forbid(unsafe_code))]

pub mod admission;
pub mod alias;
pub mod cipher;
pub mod clock;
pub mod cluster;
pub mod counters;
pub mod decision;
pub mod gate;
pub mod health;
pub mod lag;
pub mod latency;
pub mod member;
pub mod memory;
pub mod models;
pub mod need;
pub mod pace;
pub mod pool;
pub mod position;
pub mod progress;
pub mod random;
pub mod reason;
pub mod scope;
pub mod settings;
pub mod shared;
pub mod statement;
pub mod sync;
pub mod ward;
pub mod window;

#[cfg(feature = "python")]
pub mod python;
