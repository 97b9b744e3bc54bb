//! What the gate forgets when an operator asks for it. Used by `pullgate trust forget`.

use super::Gate;
use crate::audit::{Decided, DecisionText, Record, SCHEMA};
use crate::store::{NotaryRole, StoreError};

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The audit record cannot be written, and the configuration requires it.
    #[error("the request cannot be recorded in the audit file")]
    Audit,
    /// Nothing is remembered under this name.
    #[error("nothing is remembered about {0:?}; `pullgate trust status` lists the names")]
    Unknown(String),
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Gate {
    /// Forgets which versions and roots of Docker Content Trust were verified for a repository of a server. `caller` is for
    /// the audit record.
    ///
    /// # Errors
    /// See [`ForgetError`].
    pub async fn forget_notary(&self, repository: &str, caller: &str) -> Result<Vec<NotaryRole>, ForgetError> {
        let reason = "an operator asked to forget the verified versions and roots of this repository";
        let decided = Decided {
            schema: SCHEMA,
            scope: String::new(),
            endpoint: "trust/forget",
            image: repository.to_owned(),
            digest: None,
            kind: None,
            skipped: Vec::new(),
            decision: "forget",
            document: None,
            rule: None,
            stage: None,
            reasons: vec![reason.to_owned()],
            exemptions: Vec::new(),
            would_deny: Vec::new(),
            warnings: Vec::new(),
            trust_age_seconds: None,
            va_age_seconds: None,
        };
        let what = DecisionText::from(&decided);
        let (method, time, request_id, client) = ("POST", self.clock.now(), "", caller);
        let record = Record { what: &what, method, time, request_id, client, client_name: None, duration_ms: 0 };
        if !self.audit.write(&record).await {
            return Err(ForgetError::Audit);
        }
        let forgotten = self.judge.evidence.trust.forget(repository).await?;
        if forgotten.is_empty() {
            return Err(ForgetError::Unknown(repository.to_owned()));
        }
        // Decisions that rest on what is forgotten are not repeated.
        self.epoch.advance();
        for NotaryRole { role, version, .. } in &forgotten {
            tracing::warn!(repository, role, version, caller, "forgot a verified version of Docker Content Trust");
        }
        Ok(forgotten)
    }
}
