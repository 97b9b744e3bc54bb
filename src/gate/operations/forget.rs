//! Forgets verified state at an operator's request. Used by `pullgate trust forget`.

use super::Operations;
use crate::audit::{RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::gate::operator::{NotRecorded, OperatorAct};
use crate::store::StoreError;
use crate::trust::ForgottenVersion;

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The audit record cannot be written, and the configuration requires it.
    #[error(transparent)]
    Audit(#[from] NotRecorded),
    /// Nothing is remembered under this name.
    #[error("nothing is remembered about {0:?}; `pullgate trust status` lists the names")]
    Unknown(String),
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Operations {
    /// Forgets which versions and roots of Docker Content Trust were verified for a repository of a server. `caller` is
    /// for the audit record.
    ///
    /// # Errors
    /// See [`ForgetError`].
    pub async fn forget_notary(&self, repository: &str, caller: &str) -> Result<Vec<ForgottenVersion>, ForgetError> {
        let reason = "an operator asked to forget the verified versions and roots of this repository";
        let act = OperatorAct {
            endpoint: RecordedEndpoint::Forget,
            method: RecordedMethod::Post,
            decision: RecordedDecision::Forget,
            image: repository.to_owned(),
            reasons: vec![reason.to_owned()],
        };
        act.record(&self.audit, caller, self.clock.now()).await?;
        let forgotten = self.trust.forget(repository).await?;
        if forgotten.is_empty() {
            return Err(ForgetError::Unknown(repository.to_owned()));
        }
        // Decisions based on forgotten state are not repeated.
        self.epoch.advance();
        for ForgottenVersion { part: role, version } in &forgotten {
            tracing::warn!(repository, role, version, caller, "forgot a verified version of Docker Content Trust");
        }
        Ok(forgotten)
    }
}
