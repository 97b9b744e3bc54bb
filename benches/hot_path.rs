//! The pure code that every request runs: parsing the route, selecting the rule, the decision, and the response headers.
//! Run with `cargo bench`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark is not a library")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use jiff::Timestamp;
use pullgate::manifest_response;
use pullgate::oci::{Digest, ImageName, Manifest, Route};
use pullgate::policy::{
    Document, ImageHistory, Kind, Mode, NoMaterials, Opinion, Opinions, Question, RuleSet, Selection, Settings,
    Subject, TrustFindings, VaExemptions, decide, weigh,
};
use pullgate::scope::Scope;

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// A rule set of this many entries, of which the last is the one that matches.
fn rules(entries: usize) -> RuleSet {
    let mut text =
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: default}\nspec:\n  repositories:\n"
            .to_owned();
    for n in 0..entries {
        text.push_str(&format!("  - {{name: \"registry.acme.com/team-{n}/*\", policy: {{}}}}\n"));
    }
    text.push_str("  - {name: \"docker.io/library/*\", policy: {}}\n");
    let source = Document { path: "bench.yaml".into(), text };
    RuleSet::parse(&[source], &NoMaterials, &Settings::default()).rules.unwrap()
}

fn subject() -> Subject {
    let name = ImageName { host: "docker.io".parse().unwrap(), repository: "library/nginx".parse().unwrap() };
    Subject::new(name, "1.27".parse().unwrap(), Scope::CLUSTER)
}

fn hot_path(c: &mut Criterion) {
    c.bench_function("route", |b| {
        b.iter(|| Route::parse(black_box("/v2/library/nginx/manifests/1.27"), black_box(Some("ns=docker.io"))));
    });
    let subject = subject();
    for entries in [10, 1000] {
        let rules = rules(entries);
        c.bench_function(&format!("select among {entries}"), |b| b.iter(|| rules.select(black_box(&subject))));
    }
    let Selection::Entries { enforced: selected, .. } = rules(10).select(&subject) else { panic!("it matches") };
    let (trust, exemptions) = (TrustFindings::default(), VaExemptions::default());
    let question = Question {
        subject: &subject,
        digest: Digest::sha256(b"manifest"),
        kind: Kind::Image,
        selected: &selected[0],
        trust: &trust,
        va: None,
        exemptions: &exemptions,
        history: &ImageHistory::default(),
        now: Timestamp::UNIX_EPOCH,
    };
    let opinion = Opinion { selected: selected[0].clone(), outcome: weigh(&question) };
    let opinions = Opinions {
        subject: &subject,
        digest: question.digest,
        mode: Mode::Enforce,
        enforced: &[&opinion],
        audited: &[],
    };
    c.bench_function("weigh", |b| b.iter(|| weigh(black_box(&question))));
    c.bench_function("decide", |b| b.iter(|| decide(black_box(&opinions))));
    let Ok(permit) = decide(&opinions) else { panic!("nothing is asked for") };
    let manifest = Manifest::parse(Bytes::from_static(MANIFEST), None).unwrap();
    let headers = HeaderMap::new();
    c.bench_function("respond", |b| {
        b.iter(|| {
            let asked = (&Method::GET, black_box(&headers));
            manifest_response(asked, &manifest.bytes, &manifest.media_type, &permit, None)
        });
    });
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
