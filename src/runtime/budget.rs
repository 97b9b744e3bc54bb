//! The memory limits of all data that grows with the number of images, in bytes. They are defined in one place because
//! their sum matters: a process stays below 150 MB for any number of known images.

const MIB: u64 = 1024 * 1024;

/// Parsed manifests. Repeated decisions need none (`gate/warm.rs`).
pub const MANIFESTS: u64 = 3 * MIB;
/// Small content that is served from memory (the default of `cache.memory`).
pub const SMALL_OBJECTS: u64 = 8 * MIB;
/// The digests of tags.
pub const TAGS: u64 = 9 * MIB / 2;
/// Which tags may have a row in the database.
pub const TAG_FILTER: u64 = MIB / 2;
/// The manifests that each repository delivered.
pub const DELIVERED: u64 = 3 * MIB;
/// The manifests that reference a digest.
pub const NAMING: u64 = 2 * MIB;
/// The tags of a digest.
pub const KNOWN_TAGS: u64 = 2 * MIB;
/// Whether manifests were served.
pub const PULLED: u64 = 2 * MIB;
/// Children of indexes that were never fetched.
pub const UNSEEN: u64 = MIB / 2;
/// Children of indexes that the registry does not have.
pub const ABSENT: u64 = MIB / 4;
/// Manifests that were refused.
pub const REFUSED: u64 = MIB / 8;
/// Intact files whose size a manifest states wrongly.
pub const INTACT: u64 = MIB / 8;
/// Pulls that were recorded recently.
pub const NOTED_PULLS: u64 = 5 * MIB / 2;
/// Clients whose pulls were recorded recently.
pub const NOTED_CLIENTS: u64 = MIB / 2;
/// The platforms that configurations state.
pub const PLATFORMS: u64 = MIB;
/// Facts that were learned but are not in the database.
pub const RECENT: u64 = 4 * MIB;
/// Manifests that were used since their last recorded use.
pub const USED: u64 = MIB;
/// The blobs that each repository delivered.
pub const LINKS: u64 = MIB;
/// Blobs that were examined and are not manifests.
pub const LOOKED_INTO: u64 = MIB;
/// Combined reports of images.
pub const REPORTS: u64 = MIB;
/// Reports with what feeds and other images say about them.
pub const DERIVED: u64 = MIB;
/// What was found in images by the advisory databases in use.
pub const MATCHED: u64 = MIB;
/// Authorizations, for each upstream.
pub const AUTHORIZATIONS: u64 = 2 * MIB;
/// What notary servers said.
pub const NOTARY: u64 = 2 * MIB;
/// Evidence, for each topic.
pub const EVIDENCE: u64 = MIB;
/// The number of topics of evidence.
pub const EVIDENCE_TOPICS: u64 = 7;

/// Details of vulnerabilities in the databases in use.
pub const DETAILS: u64 = 4 * MIB;
/// What was found for packages in the databases in use.
pub const FOUND: u64 = 4 * MIB;
/// Pages of trivy-db that lead to others.
pub const PAGES: u64 = MIB;

/// Admissions of manifests whose blobs are requested.
pub const ADMITTED: u64 = MIB;
/// Decisions that may be repeated: about 100,000 admissions by tag.
pub const REPEATED: u64 = 54 * MIB;

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of a process that knows no images: code, threads, the pages of the database, connections.
    const BASE: u64 = 28 * MIB;

    #[test]
    fn sum_of_all_budgets_fits() {
        let maps =
            [MANIFESTS, SMALL_OBJECTS, TAGS, DELIVERED, NAMING, KNOWN_TAGS, PULLED, UNSEEN, NOTED_PULLS, NOTED_CLIENTS];
        let others = [
            ABSENT,
            REFUSED,
            INTACT,
            TAG_FILTER,
            PLATFORMS,
            RECENT,
            USED,
            LINKS,
            LOOKED_INTO,
            REPORTS,
            DERIVED,
            MATCHED,
            AUTHORIZATIONS,
            NOTARY,
            EVIDENCE * EVIDENCE_TOPICS,
            DETAILS,
            FOUND,
            PAGES,
            ADMITTED,
            REPEATED,
            BASE,
        ];
        let sum: u64 = maps.iter().chain(&others).sum();
        assert!(sum <= 150_000_000, "{sum}");
    }
}
