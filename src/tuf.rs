//! The documents of The Update Framework as Docker Content Trust (notary) writes them. Values only: no network and no
//! clock.
//!
//! The format is older than TUF 1.0: types are capitalised, keys have no `scheme`, hashes and signatures are base64,
//! and each signature names its method. The crates `tough` and `tuf` read TUF 1.0 only and refuse these documents.
//! Reference: github.com/theupdateframework/notary, `tuf/data` and `tuf/signed`.

mod canonical;
mod envelope;
mod key;
mod metadata;

pub use canonical::canonical;
pub use envelope::{InvalidDocument, SignedDocument};
pub use key::TufKey;
pub use metadata::{Delegation, FileMeta, RoleKeys, Root, Targets, Timestamp, TufSnapshot, TufTarget};

#[cfg(test)]
mod tests;
