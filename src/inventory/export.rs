//! Inventories in formats of other tools.

mod cyclonedx;

pub use cyclonedx::cyclonedx;
