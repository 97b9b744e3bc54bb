//! Scores of the Common Vulnerability Scoring System.

use serde::{Deserialize, Serialize};

use super::rule::Severity;

/// The maximum length of a stored vector, in bytes. A CVSS 4.0 vector with all metrics has about 200 bytes.
const MAX_VECTOR: usize = 512;
/// The maximum length of a stored source name, in bytes.
const MAX_SOURCE: usize = 256;

impl Severity {
    /// The severity of a CVSS score: the qualitative scale of CVSS 3.1 §5, which that of version 4 repeats. `None` for 0, which
    /// some databases write for a score that they do not know, and for what is not a score.
    pub fn of_cvss(score: f64) -> Option<Self> {
        match score {
            9.0..=10.0 => Some(Self::Critical),
            7.0..9.0 => Some(Self::High),
            4.0..7.0 => Some(Self::Medium),
            0.1..4.0 => Some(Self::Low),
            _ => None,
        }
    }
}

/// A CVSS base score and its source.
///
/// In JSON: `{"source": "nvd", "value": 9.8, "vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "WrittenScore", into = "WrittenScore")]
pub struct CvssScore {
    source: String,
    tenths: u8,
    vector: Option<String>,
}

impl CvssScore {
    /// Creates a score from the fields of a document. Returns `None` if the number is not a CVSS score (0.0 to 10.0) or
    /// the source is not a valid name. An invalid vector is dropped.
    pub fn new(source: &str, value: f64, vector: Option<&str>) -> Option<Self> {
        let is_score = (0.0..=10.0).contains(&value);
        let is_name = !source.is_empty() && source.len() <= MAX_SOURCE;
        // The range check above limits this to 100.
        let tenths = (value * 10.0).round() as u8;
        let vector = vector.filter(|vector| is_vector(vector)).map(str::to_owned);
        (is_score && is_name).then(|| Self { source: source.to_owned(), tenths, vector })
    }

    /// The source of the score: `nvd`, `ghsa`, or a vendor.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The base score, 0.0 to 10.0 in steps of a tenth.
    pub fn value(&self) -> f64 {
        f64::from(self.tenths) / 10.0
    }

    /// The vector that belongs to the score: `CVSS:3.1/AV:N/…`. A version 2 vector has no prefix.
    pub fn vector(&self) -> Option<&str> {
        self.vector.as_deref()
    }

    /// The worse of two scores. A version 2 score counts only if there is no other score, because version 2 rates
    /// issues differently.
    pub fn worse(self, other: Self) -> Self {
        let rank = |score: &Self| (!score.is_version_2(), score.tenths);
        if rank(&other) > rank(&self) { other } else { self }
    }

    fn is_version_2(&self) -> bool {
        self.vector.as_deref().is_some_and(|vector| !vector.starts_with("CVSS:"))
    }
}

/// Whether the text has only letters, digits, and the three separators.
fn is_vector(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'/' | b'.');
    !text.is_empty() && text.len() <= MAX_VECTOR && text.bytes().all(allowed)
}

/// A score in JSON.
#[derive(Clone, Deserialize, Serialize)]
struct WrittenScore {
    source: String,
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<String>,
}

impl From<CvssScore> for WrittenScore {
    fn from(score: CvssScore) -> Self {
        Self { value: score.value(), source: score.source, vector: score.vector }
    }
}

impl TryFrom<WrittenScore> for CvssScore {
    type Error = &'static str;

    fn try_from(written: WrittenScore) -> Result<Self, Self::Error> {
        Self::new(&written.source, written.value, written.vector.as_deref()).ok_or("not a CVSS score")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_scores_are_rejected() {
        for (value, read) in [(0.0, Some(0.0)), (9.84, Some(9.8)), (10.0, Some(10.0)), (10.1, None), (-0.1, None)] {
            assert_eq!(CvssScore::new("nvd", value, None).map(|score| score.value()), read, "{value}");
        }
        assert!(CvssScore::new("nvd", f64::NAN, None).is_none());
        assert!(CvssScore::new("", 1.0, None).is_none());
        assert!(CvssScore::new(&"n".repeat(MAX_SOURCE + 1), 1.0, None).is_none());
        let vector = |text: &str| CvssScore::new("nvd", 1.0, Some(text)).unwrap().vector().map(str::to_owned);
        assert_eq!(vector("CVSS:3.1/AV:N").as_deref(), Some("CVSS:3.1/AV:N"));
        for other in ["", "CVSS:3.1/AV:N\u{1b}", "CVSS 3", &"A".repeat(MAX_VECTOR + 1)] {
            assert_eq!(vector(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_not_a_score_has_no_severity() {
        let rated = [
            (0.1, Severity::Low),
            (3.9, Severity::Low),
            (4.0, Severity::Medium),
            (6.9, Severity::Medium),
            (7.0, Severity::High),
            (8.9, Severity::High),
            (9.0, Severity::Critical),
            (10.0, Severity::Critical),
        ];
        for (score, severity) in rated {
            assert_eq!(Severity::of_cvss(score), Some(severity), "{score}");
        }
        for score in [0.0, 0.05, -1.0, 10.1, f64::INFINITY, f64::NAN] {
            assert_eq!(Severity::of_cvss(score), None, "{score}");
        }
    }

    #[test]
    fn worse_score_counts_and_version_2_is_the_last_choice() {
        let score = |value, vector| CvssScore::new("nvd", value, vector).unwrap();
        let (old, new) = (Some("AV:N/AC:L/Au:N/C:C/I:C/A:C"), Some("CVSS:3.1/AV:N"));
        for (a, b, worse) in [
            (score(7.5, new), score(9.1, new), 9.1),
            (score(9.1, new), score(7.5, new), 9.1),
            (score(10.0, old), score(4.0, new), 4.0),
            (score(4.0, None), score(10.0, old), 4.0),
            (score(5.0, old), score(6.0, old), 6.0),
        ] {
            assert_eq!(a.worse(b).value(), worse);
        }
    }
}
