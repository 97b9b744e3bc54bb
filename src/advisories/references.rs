//! Addresses with more information about a vulnerability. No decision needs them, so those in an index of OSV records,
//! which are compressed there, are read only for a report.

use std::sync::Arc;

use super::DamagedDatabase;
use super::osv::StoredTexts;

/// A list of addresses, shared by all that it is about.
#[derive(Clone, Debug)]
pub struct ReferenceList(ReferencePlace);

#[derive(Clone, Debug)]
enum ReferencePlace {
    Index(Arc<StoredTexts>),
    Memory(Arc<[String]>),
}

impl ReferenceList {
    /// A list in an index of OSV records.
    pub(super) fn stored(list: StoredTexts) -> Self {
        Self(ReferencePlace::Index(Arc::new(list)))
    }

    /// The addresses.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn read(&self) -> Result<Arc<[String]>, DamagedDatabase> {
        match &self.0 {
            ReferencePlace::Index(list) => list.read().map(Into::into),
            ReferencePlace::Memory(list) => Ok(list.clone()),
        }
    }

    /// Whether it is known to be empty.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, ReferencePlace::Memory(list) if list.is_empty())
    }

    /// Whether both are the same list, without reading it.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (ReferencePlace::Index(own), ReferencePlace::Index(other)) => Arc::ptr_eq(own, other),
            (ReferencePlace::Memory(own), ReferencePlace::Memory(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl Default for ReferenceList {
    fn default() -> Self {
        Self(ReferencePlace::Memory(Arc::default()))
    }
}

impl From<Arc<[String]>> for ReferenceList {
    fn from(list: Arc<[String]>) -> Self {
        Self(ReferencePlace::Memory(list))
    }
}

impl PartialEq for ReferenceList {
    /// Lists that cannot be read differ.
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.read().is_ok_and(|own| other.read().is_ok_and(|other| own == other))
    }
}
