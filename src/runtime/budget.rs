//! The memory limits of all data that grows with the number of images, in bytes. They are defined in one place because
//! their sum matters: a process stays below 150 MB for any number of known images.

const MIB: u64 = 1024 * 1024;

/// Defines budgets, and for the test the list of all of them.
macro_rules! budgets {
    ($($(#[$about:meta])* $name:ident = $bytes:expr;)+) => {
        $($(#[$about])* pub const $name: u64 = $bytes;)+

        #[cfg(test)]
        const ALL: &[u64] = &[$($name),+];
    };
}

budgets! {
    /// Parsed manifests. Repeated decisions need none (`gate/serving/warm.rs`).
    MANIFESTS = 3 * MIB;
    /// Small content that is served from memory (the default of `cache.memory`).
    SMALL_OBJECTS = 8 * MIB;
    /// The digests of tags.
    TAGS = 9 * MIB / 2;
    /// Which tags may have a row in the database.
    TAG_FILTER = MIB / 2;
    /// The manifests that each repository delivered.
    DELIVERED = 3 * MIB;
    /// The manifests that reference a digest.
    NAMING = 2 * MIB;
    /// The tags of a digest.
    KNOWN_TAGS = 2 * MIB;
    /// Whether manifests were served.
    PULLED = 2 * MIB;
    /// Children of indexes that were never fetched.
    UNSEEN = MIB / 2;
    /// Children of indexes that the registry does not have.
    ABSENT = MIB / 4;
    /// Manifests that were refused.
    REFUSED = MIB / 8;
    /// Intact files whose size a manifest states wrongly.
    INTACT = MIB / 8;
    /// Pulls that were recorded recently.
    NOTED_PULLS = 5 * MIB / 2;
    /// Clients whose pulls were recorded recently.
    NOTED_CLIENTS = MIB / 2;
    /// The platforms that configurations state.
    PLATFORMS = MIB;
    /// Facts that were learned but are not in the database.
    RECENT = 4 * MIB;
    /// Manifests that were used since their last recorded use.
    USED = MIB;
    /// The blobs that each repository delivered.
    LINKS = MIB;
    /// Blobs that were examined and are not manifests.
    LOOKED_INTO = MIB;
    /// Combined reports of images.
    REPORTS = MIB;
    /// Reports, completed with data from feeds and other images.
    DERIVED = MIB;
    /// What was found in images by the advisory databases in use.
    MATCHED = MIB;
    /// Authorizations, for each upstream.
    AUTHORIZATIONS = 2 * MIB;
    /// What notary servers said.
    NOTARY = 2 * MIB;
    /// Evidence, for each topic.
    EVIDENCE = MIB;

    /// Details of vulnerabilities in the databases in use.
    DETAILS = 4 * MIB;
    /// What was found for packages in the databases in use.
    FOUND = 4 * MIB;
    /// Pages of trivy-db that lead to others.
    PAGES = MIB;

    /// Admissions of manifests whose blobs are requested.
    ADMITTED = MIB;
    /// Decisions that may be repeated: about 100,000 admissions by tag.
    REPEATED = 54 * MIB;
}

/// The number of topics of evidence.
pub const EVIDENCE_TOPICS: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of a process that knows no images: code, threads, the pages of the database, connections.
    const BASE: u64 = 28 * MIB;

    #[test]
    fn sum_of_all_budgets_fits() {
        let outside = include_str!("budget.rs").lines().filter(|line| line.starts_with("pub const ")).count();
        assert_eq!(outside, 1, "only the number of topics is outside the list");
        let other_topics = EVIDENCE * (EVIDENCE_TOPICS - 1);
        let sum = ALL.iter().sum::<u64>() + other_topics + BASE;
        assert!(sum <= 150_000_000, "{sum}");
    }
}
