//! Schemes that policies may name and that this version does not verify: their outcome is unknown, which denies.

use super::scheme::{ImageSubject, SignatureScheme, Sought, Unknown, Verification};
use crate::policy::Scheme;

/// The scheme of everything that is not verified.
pub(super) struct Unverified;

impl SignatureScheme for Unverified {
    fn name(&self) -> &'static str {
        "unverified"
    }

    fn is_attached(&self) -> bool {
        false
    }

    fn verification(&self, _: &ImageSubject, sought: &[Sought]) -> Box<dyn Verification> {
        Box::new(Unknown(sought.iter().map(|sought| reason(sought.authority.scheme())).collect()))
    }
}

fn reason(scheme: &Scheme) -> String {
    let what = match scheme {
        Scheme::Cosign(_) => "a cosign signature",
        Scheme::Notary(_) => "Docker Content Trust",
        Scheme::Gpg(_) => return "OpenPGP is not part of this build: it has no feature \"gpg\"".into(),
        Scheme::Notation { .. } => "a Notary Project signature",
        Scheme::Unusable { why } => return why.clone(),
    };
    format!("{what} is not verified by this version")
}
