//! What is not verified: authorities without their material, and schemes that are not part of this build. Their outcome
//! is unknown, which denies.

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
    match scheme {
        Scheme::Unusable { why } => why.clone(),
        Scheme::Cosign(_) | Scheme::Gpg(_) | Scheme::Notation(_) | Scheme::Notary(_) => {
            format!("{} is not part of this build; build pullgate with its default features", scheme.name())
        }
    }
}
