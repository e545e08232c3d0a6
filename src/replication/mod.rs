//! How far each server has come: positions, and what is known of every member's position and lag.

pub mod pace;
pub mod position;
pub mod state;
