//! How bad an issue is, by a word or by a score.

use serde::Deserialize;

use crate::policy::Severity;
use crate::va::reports::document::{severity, text_or_nothing};

#[derive(Deserialize)]
pub(super) struct Rating {
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
    score: Option<f64>,
}

impl Rating {
    /// A word that says of nothing how bad it is does not outrank a score that does.
    pub(super) fn severity(&self) -> Option<Severity> {
        let by_score = self.score.and_then(of_score);
        let word = self.severity.as_ref().map(|word| word.trim().to_ascii_lowercase());
        match word.as_deref() {
            None | Some("" | "unknown") => by_score,
            Some("none" | "info") => by_score.or(Some(Severity::Negligible)),
            Some(word) => Some(severity(Some(word))),
        }
    }
}

/// CVSS 3.1 §5, the qualitative scale.
fn of_score(score: f64) -> Option<Severity> {
    match score {
        s if s >= 9.0 => Some(Severity::Critical),
        s if s >= 7.0 => Some(Severity::High),
        s if s >= 4.0 => Some(Severity::Medium),
        s if s > 0.0 => Some(Severity::Low),
        _ => None,
    }
}
