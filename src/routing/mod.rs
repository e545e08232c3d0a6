//! Where a read goes, and why.

pub mod decide;
pub mod model_map;
