//! The text of a statement: whether it writes, what it changes in its session, and whether a replica may run it.

pub mod analyse;
pub mod dialect;
pub mod effects;
mod functions;
mod keywords;
mod lexer;
pub mod replica_guard;
pub mod session;
mod set_and_pragma;
mod surroundings;
pub mod tables;
