//! The severity of an issue, by a word or by a score.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::policy::{CvssScore, Severity};
use crate::va::reports::details::Lenient;
use crate::va::reports::document::{severity, some, text_or_nothing};
use crate::va::reports::ratings::rate;

#[derive(Deserialize)]
pub(super) struct Rating {
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
    score: Option<f64>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    vector: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    method: Option<String>,
    #[serde(default)]
    source: Lenient<RatingSource>,
}

#[derive(Deserialize)]
struct RatingSource {
    name: Option<String>,
}

/// The worst of all ratings. An undetermined rating counts unless another rating is worse than negligible.
pub(super) fn worst<'a>(ratings: impl Iterator<Item = &'a Rating>) -> Severity {
    let ratings: Vec<_> = ratings.map(Rating::severity).collect();
    let known = ratings.iter().flatten().max_by_key(|severity| **severity as u8).copied();
    match known {
        Some(Severity::Negligible) if ratings.contains(&None) => Severity::Unknown,
        known => known.unwrap_or(Severity::Unknown),
    }
}

/// The worst severity that each source gives.
pub(super) fn by_source<'a>(ratings: impl Iterator<Item = &'a Rating>) -> BTreeMap<String, Severity> {
    let mut by_source = BTreeMap::new();
    for rating in ratings {
        let source = rating.source.0.as_ref().and_then(|source| source.name.as_deref());
        if let (Some(source), Some(severity)) = (source, rating.severity()) {
            rate(&mut by_source, source, severity);
        }
    }
    by_source
}

impl Rating {
    /// The score, if it is a CVSS score. Other methods use other scales.
    pub(super) fn cvss(&self) -> Option<CvssScore> {
        let method = self.method.as_deref().unwrap_or_default();
        let vector = self.vector.as_deref();
        if !method.starts_with("CVSS") || (method == "CVSSv2" && vector.is_none()) {
            return None;
        }
        let source = self.source.0.as_ref().and_then(|source| source.name.as_deref());
        CvssScore::new(source.filter(|name| !name.is_empty()).unwrap_or("unknown"), self.score?, vector)
    }

    /// The words `none` and `info` do not outrank a score that says more, or a vector, whose score is not computed
    /// here.
    fn severity(&self) -> Option<Severity> {
        let by_score = self.score.and_then(Severity::of_cvss);
        let word = self.severity.as_ref().map(|word| word.trim().to_ascii_lowercase());
        match word.as_deref() {
            None | Some("" | "unknown") => by_score,
            Some("none" | "info") if self.score.is_none() && some(self.vector.clone()).is_some() => None,
            Some("none" | "info") => by_score.or(Some(Severity::Negligible)),
            Some(word) => Some(severity(Some(word))),
        }
    }
}
