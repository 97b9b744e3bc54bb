//! The texts of all checks.

mod image;
mod programs;
mod secrets;

use crate::hardening::HardeningCheck;
use crate::policy::Severity;
use image::{ACCOUNTS, FILES, IMAGE};
use programs::{APACHE, MYSQL, NGINX, SSH};
use secrets::SECRETS;

/// All checks, sorted by identifier. `docs/configuration-issues.md` lists them.
pub(in crate::va) fn checks() -> impl Iterator<Item = &'static CheckText> {
    [ACCOUNTS, APACHE, FILES, IMAGE, MYSQL, NGINX, SECRETS, SSH].into_iter().flatten()
}

/// What people read about a check.
#[derive(Clone, Copy, Debug)]
pub(in crate::va) struct CheckText {
    /// The check.
    pub(in crate::va) check: HardeningCheck,
    /// The identifier without its common beginning: `ssh.private_key`.
    pub(in crate::va) name: &'static str,
    /// The severity.
    pub(in crate::va) severity: Severity,
    /// The recommended setting: IBM's "security practice".
    pub(in crate::va) practice: &'static str,
    /// How to resolve the issue.
    pub(in crate::va) action: &'static str,
}

impl CheckText {
    /// The identifier that reports show and exemptions name. IBM's own identifiers have this form, and checks that IBM
    /// has too have the same ones.
    pub(in crate::va) fn id(&self) -> String {
        format!("application_configuration:{}", self.name)
    }
}

/// What to do about a secret.
const REPLACE: &str = "Remove the secret from the image, and revoke and replace it: it has been exposed.";

const fn text(
    check: HardeningCheck,
    name: &'static str,
    severity: Severity,
    practice: &'static str,
    action: &'static str,
) -> CheckText {
    CheckText { check, name, severity, practice, action }
}
