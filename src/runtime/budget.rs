//! How much memory each thing that grows with images may take, in bytes. They are in one place because only their sum
//! means something: a process that knows any number of images stays below 150 MB.

const MIB: u64 = 1024 * 1024;

/// Manifests as they were parsed; those that are asked for again are kept with their answers (`gate/warm.rs`).
pub const MANIFESTS: u64 = 8 * MIB;
/// Small content that is served from memory (the default of `cache.memory`).
pub const SMALL_OBJECTS: u64 = 8 * MIB;
/// What tags mean.
pub const TAGS: u64 = 10 * MIB;
/// Which manifests repositories delivered.
pub const DELIVERED: u64 = 5 * MIB;
/// Which manifests name a digest.
pub const NAMING: u64 = 3 * MIB;
/// The tags of a digest.
pub const KNOWN_TAGS: u64 = 3 * MIB;
/// Whether manifests were served.
pub const PULLED: u64 = 2 * MIB;
/// Children of indexes that were never fetched.
pub const UNSEEN: u64 = 2 * MIB;
/// Pulls that were written down lately.
pub const NOTED_PULLS: u64 = 3 * MIB;
/// The platforms of configurations.
pub const PLATFORMS: u64 = 2 * MIB;
/// What was learnt and is not in the database.
pub const RECENT: u64 = 4 * MIB;
/// Manifests that were used since that was written down last.
pub const USED: u64 = 2 * MIB;
/// Which repository delivered which blob.
pub const LINKS: u64 = 3 * MIB;
/// Blobs that were looked into and are no manifests.
pub const LOOKED_INTO: u64 = 2 * MIB;
/// Reports of images, put together.
pub const REPORTS: u64 = 2 * MIB;
/// Authorizations, of each upstream.
pub const AUTHORIZATIONS: u64 = 2 * MIB;
/// Evidence, of each topic.
pub const EVIDENCE: u64 = MIB;
/// How many topics of evidence there are.
pub const EVIDENCE_TOPICS: u64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers that are repeated have a budget in `gate/warm.rs`.
    const WARM: u64 = 48 * MIB;
    /// What a process takes that knows no image: code, threads, the database's pages, connections.
    const BASE: u64 = 28 * MIB;

    #[test]
    fn all_of_them_together_fit() {
        let maps = [MANIFESTS, SMALL_OBJECTS, TAGS, DELIVERED, NAMING, KNOWN_TAGS, PULLED, UNSEEN, NOTED_PULLS];
        let others = [
            PLATFORMS,
            RECENT,
            USED,
            LINKS,
            LOOKED_INTO,
            REPORTS,
            AUTHORIZATIONS,
            EVIDENCE * EVIDENCE_TOPICS,
            WARM,
            BASE,
        ];
        let sum: u64 = maps.iter().chain(&others).sum();
        assert!(sum <= 150_000_000, "{sum}");
    }
}
