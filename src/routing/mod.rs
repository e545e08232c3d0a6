//! Where a read goes, and why.

mod choose;
pub mod decide;
pub mod model_map;
pub mod question;
mod read_context;
mod resolve;
#[cfg(all(test, not(loom)))]
mod tests;
