//! The claims that Fulcio, Sigstore's certificate authority, writes into certificates as extensions (fulcio,
//! docs/oid-info.md).

/// A claim of a certificate, as policies name it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FulcioClaim(&'static Row);

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Row {
    /// The last number of its object identifier, below 1.3.6.1.4.1.57264.1.
    number: u32,
    name: &'static str,
}

/// The claims 1.2 to 1.6 are GitHub's, deprecated, and written as plain text; the others are UTF8Strings in DER. The
/// issuer (1.1 and 1.8) is not among them, because it is always compared.
const CLAIMS: [Row; 21] = [
    Row { number: 2, name: "githubTrigger" },
    Row { number: 3, name: "githubSha" },
    Row { number: 4, name: "workflow" },
    Row { number: 5, name: "githubRepository" },
    Row { number: 6, name: "githubRef" },
    Row { number: 9, name: "buildSignerUri" },
    Row { number: 10, name: "buildSignerDigest" },
    Row { number: 11, name: "runnerEnvironment" },
    Row { number: 12, name: "sourceRepository" },
    Row { number: 13, name: "sourceRepositoryDigest" },
    Row { number: 14, name: "ref" },
    Row { number: 15, name: "sourceRepositoryId" },
    Row { number: 16, name: "sourceRepositoryOwner" },
    Row { number: 17, name: "sourceRepositoryOwnerId" },
    Row { number: 18, name: "buildConfigUri" },
    Row { number: 19, name: "buildConfigDigest" },
    Row { number: 20, name: "buildTrigger" },
    Row { number: 21, name: "runInvocationUri" },
    Row { number: 22, name: "sourceRepositoryVisibility" },
    Row { number: 23, name: "deploymentEnvironment" },
    Row { number: 24, name: "tokenSubject" },
];

impl FulcioClaim {
    /// The claim that policies call by this name.
    pub fn named(name: &str) -> Option<Self> {
        CLAIMS.iter().find(|row| row.name == name).map(Self)
    }

    /// Every name.
    pub(in crate::policy) fn names() -> Vec<&'static str> {
        CLAIMS.iter().map(|row| row.name).collect()
    }

    /// The name in policies.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The last number of its object identifier: 12 for 1.3.6.1.4.1.57264.1.12.
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// Whether the extension holds plain text instead of a UTF8String in DER.
    pub fn is_plain_text(self) -> bool {
        self.0.number < 8
    }
}
