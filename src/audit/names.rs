//! The closed sets of names that records use. docs/operating.md lists them, which a test compares.

use serde::{Serialize, Serializer};

/// Defines an enum of names with their texts.
macro_rules! names {
    ($(#[$about:meta])* pub enum $set:ident { $($(#[$meaning:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $set {
            $($(#[$meaning])* $name,)*
        }

        impl $set {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in a record.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl Serialize for $set {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

names! {
    /// What was requested: an endpoint of the registry, or a call of the admin API.
    pub enum RecordedEndpoint {
        /// Nothing was requested: the advisory databases have changed.
        Advisories = "advisories",
        /// A blob.
        Blob = "blob",
        /// Advisory databases of a bundle.
        BundleAdvisories = "bundle/advisories",
        /// An image of a bundle.
        BundleImport = "bundle/import",
        /// Reports of a bundle.
        BundleReports = "bundle/reports",
        /// Content of the cache.
        Contents = "cache/contents",
        /// Exemptions of vulnerabilities.
        Exemptions = "exemptions",
        /// What is remembered about a notary server.
        Forget = "trust/forget",
        /// A manifest.
        Manifest = "manifest",
        /// Pins of images.
        Pins = "cache/pins",
        /// A list of referrers.
        Referrers = "referrers",
        /// A list of tags.
        Tags = "tags",
    }
}

names! {
    /// What was decided about a request for content, or what an operator's call does.
    pub enum RecordedDecision {
        /// The client left before anything was decided.
        Abandoned = "abandoned",
        /// An exemption is added.
        AddExemption = "add-exemption",
        /// The content is served.
        Admit = "admit",
        /// The policy denies.
        Deny = "deny",
        /// The upstream or the cache failed.
        Error = "error",
        /// What was verified about a repository of a notary server is forgotten.
        Forget = "forget",
        /// An image of a bundle is imported.
        Import = "import",
        /// Advisory databases of a bundle are imported.
        ImportAdvisories = "import-advisories",
        /// What is attached to an image of a bundle is imported.
        ImportAttached = "import-attached",
        /// An image of a bundle is imported, and its tag keeps another digest.
        ImportByDigest = "import-by-digest",
        /// An image of a bundle is not imported.
        ImportDenied = "import-denied",
        /// An image of a bundle would be imported.
        ImportDryRun = "import-dry-run",
        /// Reports of a bundle are imported.
        ImportReports = "import-reports",
        /// The content does not exist: the registry says so, or nobody is asked for it.
        Missing = "missing",
        /// Evidence is being gathered.
        Pending = "pending",
        /// An image is pinned.
        Pin = "pin",
        /// The manifest or the request itself is unacceptable.
        Refused = "refused",
        /// Content is removed from the cache.
        RemoveContent = "remove-content",
        /// An exemption is removed.
        RemoveExemption = "remove-exemption",
        /// The image cannot be judged now.
        Unavailable = "unavailable",
        /// An image is no longer pinned.
        Unpin = "unpin",
        /// Other advisory databases are in use.
        UseAdvisories = "use-advisories",
        /// The content is served only because of audit mode.
        WouldDeny = "would-deny",
    }
}

names! {
    /// The HTTP method of a request.
    pub enum RecordedMethod {
        /// DELETE.
        Delete = "DELETE",
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// There was no request.
        NoRequest = "",
        /// POST.
        Post = "POST",
    }
}
