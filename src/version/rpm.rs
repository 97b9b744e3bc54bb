//! Versions of RPM packages: `[epoch:]version[-release]`.

use std::cmp::Ordering;

/// A version of an RPM package.
#[derive(Debug)]
pub(super) struct RpmVersion<'a>(&'a str);

impl<'a> RpmVersion<'a> {
    /// Every text has a place in the order.
    pub(super) fn parse(text: &'a str) -> Self {
        Self(text)
    }

    /// A version without a release is before the same version with one.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let has_release = |version: &str| version.contains('-');
        rpm_version::rpm_evr_compare(self.0, other.0).then_with(|| has_release(self.0).cmp(&has_release(other.0)))
    }
}
