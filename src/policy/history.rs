//! What the gate itself remembers about an image.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// What the gate itself remembers about an image. Nobody else can state or change it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageHistory {
    /// When the digest was first asked for, whether or not it was admitted. `None` if that was not recorded.
    pub known_since: Option<Timestamp>,
    /// When the digest was first admitted. `None` if it never was.
    pub admitted_since: Option<Timestamp>,
    /// When each issue was first found in the image, by the identifier of the issue.
    pub first_seen: BTreeMap<String, Timestamp>,
    /// When each issue was first found in any image of the repository, by each of its identifiers and aliases.
    pub seen_in_repository: BTreeMap<String, Timestamp>,
}
