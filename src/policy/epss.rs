//! Probabilities of FIRST's Exploit Prediction Scoring System (EPSS, first.org/epss).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The probability that an issue is exploited within 30 days: 0 to 1, in steps of a hundred-thousandth as FIRST publishes
/// them. In JSON, a number: `0.97526`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Epss {
    steps: u32,
}

const STEPS: f64 = 100_000.0;

impl Epss {
    /// Creates a probability. Returns `None` if the number is not between 0 and 1.
    pub fn new(probability: f64) -> Option<Self> {
        // The range check limits this to 100,000.
        (0.0..=1.0).contains(&probability).then(|| Self { steps: (probability * STEPS).round() as u32 })
    }

    /// The probability, 0 to 1.
    pub fn value(self) -> f64 {
        f64::from(self.steps) / STEPS
    }
}

impl fmt::Display for Epss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value())
    }
}

impl From<Epss> for f64 {
    fn from(epss: Epss) -> Self {
        epss.value()
    }
}

impl TryFrom<f64> for Epss {
    type Error = &'static str;

    fn try_from(probability: f64) -> Result<Self, Self::Error> {
        Self::new(probability).ok_or("not a probability from 0 to 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_probabilities_are_accepted() {
        for (number, value) in
            [(0.0, Some(0.0)), (0.975_264, Some(0.97526)), (1.0, Some(1.0)), (1.1, None), (-0.1, None)]
        {
            assert_eq!(Epss::new(number).map(Epss::value), value, "{number}");
        }
        assert!(Epss::new(f64::NAN).is_none());
        assert!(Epss::new(0.5).unwrap() > Epss::new(0.49999).unwrap());
        assert_eq!(serde_json::to_string(&Epss::new(0.97526).unwrap()).unwrap(), "0.97526");
        assert!(serde_json::from_str::<Epss>("1.5").is_err());
    }
}
