//! The `trust forget` command: Docker Content Trust of a repository begins again.

use serde::{Deserialize, Serialize};

use crate::gate::{ForgetError, Operations};

/// What to forget.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The server and the repository, as `pullgate trust status` names them:
    /// `https://notary.acme.com/v2/registry.acme.com/app`.
    pub repository: String,
}

/// One role whose verified version was forgotten; with the role `root`, also the root.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ForgottenRole {
    /// The name of the role: `targets/releases`.
    pub role: String,
    /// The newest version that was verified.
    pub version: u64,
}

/// Forgets the verified versions and roots of a repository. `caller` is for the audit record.
///
/// # Errors
/// See [`ForgetError`].
pub async fn forget(
    operations: &Operations,
    request: &ForgetRequest,
    caller: &str,
) -> Result<Vec<ForgottenRole>, ForgetError> {
    let forgotten = operations.forget_notary(&request.repository, caller).await?;
    Ok(forgotten.into_iter().map(|one| ForgottenRole { role: one.part, version: one.version }).collect())
}
