//! Tests for how long decisions are kept, and what they take.

use super::*;
use crate::audit::{Decided, RecordedDecision, RecordedEndpoint};
use crate::oci::ImageName;
use crate::policy::{self, Admission, Mode, Opinion, Opinions, Selected, Subject};
use crate::scope::Scope;

fn refused() -> WarmOutcome {
    WarmOutcome::Refused(WarmRefusal { error: GateError::NoUpstream { near: Vec::new() }, digest: None }.into())
}

/// An admission to an entry that requires nothing.
fn admitted(digest: Digest) -> WarmOutcome {
    let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
    admitted_to(name, digest)
}

fn admitted_to(name: ImageName, digest: Digest) -> WarmOutcome {
    let selected = Selected { document: "ClusterImagePolicy/default".into(), entry: "*".into(), rule: None };
    let opinion = Opinion { selected, outcome: Ok(Admission::default()) };
    let subject = Subject::new(name, "v1".parse().unwrap(), Scope::CLUSTER);
    let (mode, enforced, audited) = (Mode::Enforce, &[&opinion][..], &[][..]);
    let permit = policy::decide(&Opinions { subject: &subject, digest, mode, enforced, audited }).unwrap();
    let media_type = media_type::constant(media_type::OCI_MANIFEST);
    WarmOutcome::Admitted { media_type, is_index: false, permit }
}

#[test]
fn a_decision_is_valid_until_something_changes_or_it_expires() {
    let (epoch, clock) = (Epoch::new(), Clock::manual(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000)));
    let answers = WarmAnswers::new(Arc::default(), Tasks::new(), epoch.clone(), clock.clone());
    let keep = |name: &str, validity| {
        let outcome = refused();
        let basis = Basis { moment: epoch.moment("a"), time: clock.now() };
        answers.keep(name, WarmAnswer::new(outcome, DecisionText::default(), Vec::new(), basis, validity), None);
    };
    let milliseconds = SignedDuration::from_millis;
    let ends = |seconds| Some(clock.now() + SignedDuration::from_secs(seconds));
    let clean = |until| Validity { until, is_clean: true };
    for (name, validity, held_for) in [
        ("clean", clean(None), ADMITTED_FOR),
        ("short evidence", clean(ends(5)), SignedDuration::from_secs(5)),
        ("long evidence", clean(ends(1_000_000)), ADMITTED_FOR),
        ("reservations", Validity::default(), OTHERS_FOR),
    ] {
        keep(name, validity);
        assert!(answers.recall(name).is_some(), "{name}");
        clock.advance(milliseconds(-1));
        assert!(answers.recall(name).is_none(), "{name}: the clock was set back");
        clock.advance(held_for);
        assert!(answers.recall(name).is_some(), "{name}: one millisecond before its end");
        clock.advance(milliseconds(1));
        assert!(answers.recall(name).is_none(), "{name}: at its end");
        clock.advance(-held_for);
        assert!(answers.recall(name).is_some(), "{name}");
        epoch.advance_part("b");
        assert!(answers.recall(name).is_some(), "{name}: another repository changed");
        epoch.advance_part("a");
        assert!(answers.recall(name).is_none(), "{name}: a fact changed");
    }
    keep("all", clean(None));
    epoch.advance();
    assert!(answers.recall("all").is_none(), "the rules changed");
}

#[test]
fn decisions_share_data_that_is_not_about_their_image() {
    let answers = WarmAnswers::new(Arc::default(), Tasks::new(), Epoch::new(), Clock::system());
    let keep = |image: &str, decision| {
        let decided = Decided::new(RecordedEndpoint::Manifest, image.into(), decision);
        let basis = Basis { moment: answers.epoch.moment("a"), time: answers.clock.now() };
        let outcome = refused();
        let record = DecisionText::from(&decided);
        answers.keep(image, WarmAnswer::new(outcome, record, Vec::new(), basis, Validity::default()), None);
        answers.recall(image).unwrap()
    };
    let (one, two, other) = (
        keep("one", RecordedDecision::Deny),
        keep("two", RecordedDecision::Deny),
        keep("other", RecordedDecision::Refused),
    );
    assert!(Arc::ptr_eq(&one.common, &two.common));
    assert!(!Arc::ptr_eq(&one.common, &other.common));
    assert!(one.weight() > two.weight() + one.common.shape.len(), "it is counted once");
}

#[test]
fn a_hundred_thousand_admissions_by_tag_fit() {
    let answers = WarmAnswers::new(Arc::default(), Tasks::new(), Epoch::new(), Clock::system());
    let key = |number: u32| format!(" /v2/registry.acme.com/team-{}/app/manifests/v{}", number / 100, number % 100);
    for number in 0..100_000_u32 {
        let repository = format!("team-{}/app", number / 100).parse().unwrap();
        let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository };
        let digest = Digest::sha256(&number.to_be_bytes());
        let outcome = admitted_to(name, digest);
        let image = format!("\"registry.acme.com/team-{}/app:v{}\"", number / 100, number % 100).into();
        let text = DecisionText { image, digest: Some(digest), until: None, shape: "\"decision\":\"admit\"".into() };
        let basis = Basis { moment: answers.epoch.moment("a"), time: answers.clock.now() };
        answers.keep(&key(number), WarmAnswer::new(outcome, text, Vec::new(), basis, Validity::default()), None);
    }
    let kept = (0..100_000).filter(|number| answers.answers.get(&hash(&key(*number))).is_some()).count();
    assert!(kept > 99_500, "{kept}");
}

#[test]
fn manifests_are_copied_once_while_the_copy_is_not_old() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let tasks = Tasks::new();
    let copies = Arc::new(ManifestCopies::create(dir.path(), 1 << 30));
    let answers = WarmAnswers::new(copies, tasks.clone(), Epoch::new(), Clock::system());
    let text = r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    let manifest = Arc::new(Manifest::parse(text.as_bytes().to_vec().into(), None).unwrap());
    let keep = || {
        let basis = Basis { moment: answers.epoch.moment("a"), time: answers.clock.now() };
        let text = DecisionText { digest: Some(manifest.digest), ..DecisionText::default() };
        let answer = WarmAnswer::new(admitted(manifest.digest), text, Vec::new(), basis, Validity::default());
        answers.keep("a", answer, Some(&manifest));
        answers.recall("a").unwrap()
    };
    let first = keep();
    runtime.block_on(tasks.drain(std::time::Duration::from_secs(20)));
    assert_eq!(answers.manifest(&first).unwrap(), manifest.bytes);
    let (first, again) = (first.copy.get().unwrap(), keep());
    assert_eq!(format!("{first:?}"), format!("{:?}", again.copy.get().unwrap()), "the same place at once");
}
