//! Where policy documents and the secrets that they name come from: directories.

mod directory;

pub use directory::{DirMaterials, Error, read_dir};
