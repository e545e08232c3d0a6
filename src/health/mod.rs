//! Whether each member may serve: failures, lag, latency, and the return to service.

pub mod admission;
pub mod breaker;
pub mod cluster_health;
pub mod lag_gate;
pub mod latency;
pub mod window;
