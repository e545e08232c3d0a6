//! All `unsafe` code of the package: where PyO3 has no safe way, or one that costs too much on the way of a decision.

#![allow(unsafe_code)]

pub mod attached;
pub mod attribute;
pub mod context;
pub mod entry;
pub mod interpreter;
pub mod mysql_client;
