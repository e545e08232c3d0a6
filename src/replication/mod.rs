//! Positions, and what is known of each member's position, lag and pace.

pub mod pace;
pub mod position;
pub mod state;
