//! Audited entries, and lists.

use super::*;

#[test]
fn listing_requires_an_entry() {
    let name = ImageName { host: "icr.io".parse().unwrap(), repository: "a".parse().unwrap() };
    assert_eq!(admit_listing(&name, &[]), None);
    let selected = Selected { document: "d".into(), entry: "*".into(), rule: None };
    assert_eq!(admit_listing(&name, &[selected]).unwrap().name(), &name);
}

/// Enforced entries decide, and the permit carries the denials of audited entries.
#[test]
fn audited_entries_never_decide_when_enforced_entries_apply() {
    let name: ImageReference = "icr.io/a/b:v1".parse().unwrap();
    let subject = Subject::new(name.name.clone(), name.reference(), Scope::CLUSTER);
    let opinion = |document: &str, admits: bool| Opinion {
        selected: Selected { document: document.into(), entry: "*".into(), rule: None },
        outcome: if admits { Ok(Admission::default()) } else { Err(no_match(&subject, document.into())) },
    };
    let (yes, no) = (opinion("yes", true), opinion("no", false));
    let (fine, bad) = (opinion("fine", true), opinion("bad", false));
    let both = [Mode::Enforce, Mode::Audit];
    let twice = |one: Result<(&'static str, Vec<&'static str>), &'static str>| [one.clone(), one];
    for (mode, enforced, audited, wanted) in [
        (both, vec![&yes], vec![&bad], twice(Ok(("yes", vec!["bad"])))),
        (both, vec![&yes], vec![&fine], twice(Ok(("yes", vec![])))),
        (both, vec![&no], vec![&fine], [Err("no"), Ok(("no", vec!["no"]))]),
        (both, vec![&no], vec![&bad], [Err("no"), Ok(("no", vec!["no", "bad"]))]),
        (both, vec![&no, &yes], vec![], twice(Ok(("yes", vec![])))),
        (both, vec![], vec![&bad], twice(Ok(("bad", vec!["bad"])))),
        (both, vec![], vec![&bad, &fine], twice(Ok(("fine", vec![])))),
        (both, vec![], vec![], twice(Err("no rule selects it"))),
    ] {
        for (mode, wanted) in mode.into_iter().zip(wanted) {
            let digest = Digest::sha256(b"image");
            let decision =
                decide(&Opinions { subject: &subject, digest, mode, enforced: &enforced, audited: &audited });
            let reasons =
                |permit: &Permit| permit.would_deny().iter().map(|d| d.reasons[0].clone()).collect::<Vec<_>>();
            let found = match &decision {
                Ok(permit) => Ok((permit.document(), reasons(permit))),
                Err(denial) => Err(&*denial.reasons[0]),
            };
            let wanted = wanted.map(|(document, reasons)| (document, reasons.into_iter().map(String::from).collect()));
            assert_eq!(found, wanted, "{mode:?}");
        }
    }
}
