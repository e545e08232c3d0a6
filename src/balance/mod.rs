//! Which of the eligible members serves the next read: the pool, and the order of `BALANCE`.

pub mod costs;
pub mod pool;
