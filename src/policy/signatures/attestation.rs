//! What an attestation about an image must say: `attestation` of an authority.
//!
//! An attestation is an in-toto statement about the image, with a predicate of some type, in a DSSE envelope. This
//! module judges the statement after its signature was verified, never before: an image that has some attestation by
//! the right signer and another one of the right type by somebody else has none that counts (CVE-2022-35929).

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::evidence::Signatory;
use crate::policy::condition::{Condition, ValueType, Variable};
use crate::policy::observed::known_time;

/// For how long a condition holds that depends on the time, before it is evaluated again.
const TIMED_CONDITION: SignedDuration = SignedDuration::from_hours(1);

/// The names that a condition about an attestation can use:
///
/// | name | type | meaning |
/// |---|---|---|
/// | `predicate` | dyn | the predicate |
/// | `predicateType` | string | its type |
/// | `subject` | dyn | the entry of the statement's `subject` that names the image: `{"name": …, "digest": {"sha256": …}}` |
/// | `signer` | dyn | `{"id": …, "identity": …, "issuer": …}`; `issuer` is empty for a key |
/// | `now` | timestamp | the time of the decision |
const VARIABLES: [(&str, ValueType); 5] = [
    ("predicate", ValueType::Any),
    ("predicateType", ValueType::Text),
    ("subject", ValueType::Any),
    ("signer", ValueType::Any),
    ("now", ValueType::Time),
];

/// Where well-known predicates state when they were made, as a path of keys.
const TIMES: [(&str, &[&str]); 6] = [
    ("https://cosign.sigstore.dev/attestation/vuln/v1", &["metadata", "scanFinishedOn"]),
    ("https://slsa.dev/provenance/v0.1", &["metadata", "buildFinishedOn"]),
    ("https://slsa.dev/provenance/v0.2", &["metadata", "buildFinishedOn"]),
    ("https://slsa.dev/provenance/v1", &["runDetails", "metadata", "finishedOn"]),
    ("https://slsa.dev/verification_summary/v0.2", &["timeVerified"]),
    ("https://slsa.dev/verification_summary/v1", &["timeVerified"]),
];

/// What an attestation must say.
#[derive(Clone, Debug, PartialEq)]
pub struct AttestationRule {
    /// The type of the predicate, compared exactly.
    pub predicate_type: String,
    /// The maximum age. The time is the one that the predicate states, for the types of [`TIMES`]; for all others the
    /// time of signing that a third party vouches for. An attestation without such a time does not count.
    pub max_age: Option<SignedDuration>,
    /// A condition over the predicate.
    pub condition: Option<Condition>,
}

/// A statement whose signature was verified.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedStatement<'a> {
    /// The type of the predicate.
    pub predicate_type: &'a str,
    /// The predicate.
    pub predicate: &'a Value,
    /// The entry of `subject` that names the image.
    pub subject: &'a Value,
    /// Who signed, and when, if a third party vouches for the time.
    pub signer: &'a Signatory,
}

impl AttestationRule {
    /// Reads a condition of a rule.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn condition(text: &str) -> Result<Condition, Vec<crate::policy::condition::InvalidCondition>> {
        Condition::compile(text, &VARIABLES)
    }

    /// The identifier of a signer as a signer of such attestations. A signature and an attestation say different
    /// things, so one key that made both counts for each of them; two attestations of one type by the same key count
    /// once.
    pub fn signer(&self, id: &str) -> String {
        format!("{id} attesting {}", self.predicate_type)
    }

    /// Judges a statement. Returns until when the result holds; `None` means forever.
    ///
    /// # Errors
    /// Why the statement does not count.
    pub fn check(&self, statement: &VerifiedStatement<'_>, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let VerifiedStatement { predicate_type, predicate, subject, signer } = *statement;
        if predicate_type != self.predicate_type {
            return Err(format!("is an attestation of {predicate_type:?}, not of {:?}", self.predicate_type));
        }
        let old = self.max_age.map(|max_age| too_old_at(statement, max_age, now)).transpose()?;
        let Some(condition) = &self.condition else { return Ok(old) };
        let signer =
            json!({"id": signer.id, "identity": signer.identity, "issuer": signer.issuer.as_deref().unwrap_or("")});
        let values = [
            ("predicate", Variable::Json(predicate)),
            ("predicateType", Variable::Text(predicate_type)),
            ("subject", Variable::Json(subject)),
            ("signer", Variable::Json(&signer)),
            ("now", Variable::Time(now)),
        ];
        match condition.is_met(&values) {
            Ok(true) => {}
            Ok(false) => return Err("does not meet the condition of the policy".into()),
            Err(why) => return Err(format!("the condition of the policy cannot be evaluated: {why}")),
        }
        let again = condition.mentions("now").then(|| now.saturating_add(TIMED_CONDITION).unwrap_or(Timestamp::MAX));
        Ok(old.into_iter().chain(again).min())
    }
}

/// When a statement exceeds the maximum age.
fn too_old_at(statement: &VerifiedStatement<'_>, max_age: SignedDuration, now: Timestamp) -> Result<Timestamp, String> {
    let made = time_of(statement)?;
    let made = known_time(made, now).ok_or_else(|| format!("was made in the future, at {made}"))?;
    let end = made.saturating_add(max_age).unwrap_or(Timestamp::MAX);
    if end <= now { Err(format!("is too old: it was made at {made}")) } else { Ok(end) }
}

/// When a statement was made.
fn time_of(statement: &VerifiedStatement<'_>) -> Result<Timestamp, String> {
    let VerifiedStatement { predicate_type, predicate, signer, .. } = statement;
    let Some((_, path)) = TIMES.iter().find(|(known, _)| known == predicate_type) else {
        return signer.signed_at.ok_or_else(|| {
            "has no age: nobody but the signer states when it was signed, and its type states no time".into()
        });
    };
    let stated = path.iter().try_fold(*predicate, |value, key| value.get(key)).and_then(Value::as_str);
    let time = stated.and_then(|text| text.parse().ok());
    time.ok_or_else(|| format!("has no age: its predicate states no time in {}", path.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PublicKey;

    const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
    const SLSA: &str = "https://slsa.dev/provenance/v1";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rule(predicate_type: &str, days: Option<i64>, condition: Option<&str>) -> AttestationRule {
        AttestationRule {
            predicate_type: predicate_type.into(),
            max_age: days.map(|days| SignedDuration::from_hours(days * 24)),
            condition: condition.map(|text| AttestationRule::condition(text).unwrap()),
        }
    }

    fn check(rule: &AttestationRule, predicate_type: &str, predicate: &Value) -> Result<Option<Timestamp>, String> {
        check_signed_at(rule, predicate_type, predicate, None)
    }

    fn check_signed_at(
        rule: &AttestationRule,
        predicate_type: &str,
        predicate: &Value,
        signed_at: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String> {
        let signer = Signatory { signed_at, ..Signatory::of_key(&PublicKey::for_test("k"), "k".into()) };
        let subject = json!({"name": "registry.acme.com/app", "digest": {"sha256": "00"}});
        let statement = VerifiedStatement { predicate_type, predicate, subject: &subject, signer: &signer };
        rule.check(&statement, at("2026-06-01T00:00:00Z"))
    }

    #[test]
    fn the_type_is_compared_exactly() {
        assert_eq!(check(&rule(SLSA, None, None), SLSA, &json!({})), Ok(None));
        for other in ["https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1/", VULN, ""] {
            let why = check(&rule(SLSA, None, None), other, &json!({})).unwrap_err();
            assert!(why.contains("not of \"https://slsa.dev/provenance/v1\""), "{why}");
        }
    }

    #[test]
    fn the_age_comes_from_the_predicate_or_from_a_trusted_time() {
        let vuln = |time: &str| json!({"metadata": {"scanFinishedOn": time}});
        let limited = rule(VULN, Some(30), None);
        assert_eq!(check(&limited, VULN, &vuln("2026-05-20T00:00:00Z")), Ok(Some(at("2026-06-19T00:00:00Z"))));
        for (predicate, expected) in [
            (vuln("2026-05-02T00:00:00Z"), "is too old: it was made at 2026-05-02T00:00:00Z"),
            (vuln("2026-06-02T00:00:00Z"), "was made in the future"),
            (vuln("yesterday"), "states no time in metadata.scanFinishedOn"),
            (json!({"metadata": {"scanFinishedOn": 1}}), "states no time"),
            (json!({}), "states no time"),
        ] {
            let why = check(&limited, VULN, &predicate).unwrap_err();
            assert!(why.contains(expected), "{why}");
            // What the signer's clock or a log says does not replace the time that the type has a field for.
            let signed_at = Some(at("2026-05-31T00:00:00Z"));
            assert_eq!(check_signed_at(&limited, VULN, &predicate, signed_at), Err(why));
        }
        for (kind, predicate) in [
            (SLSA, json!({"runDetails": {"metadata": {"finishedOn": "2026-05-31T00:00:00Z"}}})),
            ("https://slsa.dev/provenance/v0.2", json!({"metadata": {"buildFinishedOn": "2026-05-31T00:00:00Z"}})),
            ("https://slsa.dev/verification_summary/v1", json!({"timeVerified": "2026-05-31T00:00:00Z"})),
        ] {
            assert_eq!(check(&rule(kind, Some(30), None), kind, &predicate), Ok(Some(at("2026-06-30T00:00:00Z"))));
        }
        let spdx = rule("https://spdx.dev/Document", Some(30), None);
        let of = |signed_at| check_signed_at(&spdx, "https://spdx.dev/Document", &json!({}), signed_at);
        assert!(of(None).unwrap_err().contains("has no age"));
        assert_eq!(of(Some(at("2026-05-31T00:00:00Z"))), Ok(Some(at("2026-06-30T00:00:00Z"))));
        assert!(of(Some(at("2026-04-30T00:00:00Z"))).unwrap_err().contains("too old"));
    }

    #[test]
    fn the_condition_sees_the_statement_and_the_signer() {
        let predicate = json!({"buildDefinition": {"buildType": "https://b/v1"}});
        let met = |text: &str| check(&rule(SLSA, None, Some(text)), SLSA, &predicate);
        for text in [
            "predicate.buildDefinition.buildType == 'https://b/v1'",
            "predicateType.startsWith('https://slsa.dev/')",
            "subject.name == 'registry.acme.com/app' && has(subject.digest.sha256)",
            "signer.identity.startsWith('Ed25519') && signer.issuer == '' && signer.id.startsWith('sha256:')",
        ] {
            assert_eq!(met(text), Ok(None), "{text}");
        }
        assert_eq!(met("now > timestamp('2026-01-01T00:00:00Z')"), Ok(Some(at("2026-06-01T01:00:00Z"))));
        assert!(met("predicate.buildDefinition.buildType == 'x'").unwrap_err().contains("does not meet the condition"));
        assert!(met("predicate.absent == 'x'").unwrap_err().contains("cannot be evaluated: there is no \"absent\""));
        assert!(AttestationRule::condition("image == 'x'").is_err());
    }
}
