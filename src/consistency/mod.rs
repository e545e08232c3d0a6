//! Scopes, what each of them requires of a server, and which members satisfy it.

pub mod eligibility;
pub mod requirement;
pub mod scope;
pub mod scope_state;
