//! The dialect `pullgate.io/v1`, a superset of IBM's two. Every unknown key is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::authority::{self, keys_of, one_of};
use super::envelope::PolicyObject;
use super::{Context, NOTARY, REJECT, Settings, lint, va};
use crate::markup::{Fields, Node, ProblemSeverity, Value, text_of};
use crate::policy::matching::pattern::Pattern;
use crate::policy::rules::rule::{Mode, Requirement, Rule, SignedPart};
use crate::policy::rules::ruleset::{Entry, EntryPlace};
use crate::policy::signatures::authority::{Authority, NotaryTrust, Scheme};

/// The maximum number of parts in one combination, because every decision matches signers with parts.
const MAX_PARTS: usize = 100;

/// The keys of combinations.
const COMBINATIONS: [(&str, Combination); 4] = [
    ("anyOf", Combination::AnyOf),
    ("allOf", Combination::AllOf),
    ("every", Combination::Every),
    ("atLeast", Combination::AtLeast),
];

/// How the parts of a requirement are combined.
#[derive(Clone, Copy)]
enum Combination {
    AllOf,
    AnyOf,
    AtLeast,
    Every,
}

/// The mode and the entries of a document.
pub(super) fn entries(policy: &PolicyObject<'_>, context: &Context<'_>) -> (Mode, Vec<Entry>) {
    let Some(spec) = &policy.spec else {
        policy.problems.error(policy.at, format!("{} has no spec", policy.label()));
        return (Mode::Enforce, Vec::new());
    };
    spec.only(&["mode", "authorities", "repositories"]);
    lint::empty_keys(spec.members(), policy.problems);
    let own = authority::of_document(spec, policy, context);
    let Settings { notary, now, .. } = context.settings;
    let reader = RuleReader { own, settings: &context.authorities, notary, now: *now };
    let list = spec.list("repositories");
    if list.is_empty() {
        policy.warn_no_entries(spec.at, "add an entry");
    }
    lint::names(list, policy.problems, ProblemSeverity::Error);
    (mode(spec), list.iter().filter_map(|node| reader.entry(node, policy)).collect())
}

fn mode(spec: &Fields<'_>) -> Mode {
    spec.choice("mode", &[("audit", Mode::Audit), ("enforce", Mode::Enforce)]).unwrap_or_default()
}

/// Reads the entries of one document.
struct RuleReader<'a> {
    own: Vec<Arc<Authority>>,
    settings: &'a [Arc<Authority>],
    /// The configuration's settings for Docker Content Trust.
    notary: &'a NotaryTrust,
    /// The time at which the document is read, to warn of what has ended.
    now: Option<Timestamp>,
}

impl RuleReader<'_> {
    fn entry(&self, node: &Node, policy: &PolicyObject<'_>) -> Option<Entry> {
        let fields = Fields::of(node, "an entry of repositories", policy.problems)?;
        for entry in fields.members() {
            if ["trust", "va"].contains(&&*entry.key) {
                let message = format!("{:?} is next to policy, where it enforces nothing", entry.key);
                fields.problems.error_hint(entry.at, message, "indent it under policy");
            } else {
                fields.known(entry, &["name", "policy"]);
            }
        }
        lint::null_policy(&fields);
        let name = fields.required("name")?;
        Some(Entry {
            document: policy.label().into(),
            name: name.into(),
            at: EntryPlace::new(node.at, policy.problems),
            pattern: Pattern::new(name),
            rule: fields.map("policy").map(|checks| Arc::new(self.rule(&checks, name))),
            by_namespace: BTreeMap::new(),
        })
    }

    fn rule(&self, fields: &Fields<'_>, name: &str) -> Rule {
        fields.only(&["signed", "trust", "va"]);
        let trust = fields.get("trust").map(|node| self.requirement(node, fields));
        let parts = [("child", SignedPart::Child), ("either", SignedPart::Either), ("index", SignedPart::Index)];
        let signed = fields.choice("signed", &parts);
        if signed.is_some() && trust.is_none() {
            fields.warn("signed has no effect without trust", "add trust, or remove signed");
        }
        Rule {
            signed: signed.unwrap_or_default(),
            trust: trust.map(|requirement| requirement.unwrap_or(Requirement::Reject)),
            simple: None,
            va: fields.map("va").map(|fields| {
                va::own_bases(&fields, name);
                va::rule(&fields, self.now)
            }),
            keeps_tags: false,
        }
    }

    /// A name, or a mapping with one of `anyOf`, `allOf`, `every` and `atLeast`. `None` after an error was reported.
    fn requirement(&self, node: &Node, parent: &Fields<'_>) -> Option<Requirement> {
        if let Value::Bool(_) = node.value {
            let hint = "such as trust: release; without the key, no signature is asked for";
            parent.problems.error_hint(node.at, "trust must name an authority, and is not turned on or off", hint);
            return None;
        }
        if !matches!(node.value, Value::Map(_)) {
            return self.named(node, parent);
        }
        let fields = Fields::of(node, "trust", parent.problems)?;
        fields.only(&keys_of(&COMBINATIONS));
        let (key, combination) = one_of(&fields, &COMBINATIONS)?;
        match combination {
            Combination::AnyOf => Some(Requirement::AnyOf(self.parts(&fields, key)?)),
            // Each part separately, as in containers-policy.json(5): one signature can satisfy several of them.
            Combination::Every => Some(Requirement::AllOf(self.parts(&fields, key)?)),
            // Two names mean two signatures, so one key under both names is not enough.
            Combination::AllOf => {
                let of = self.parts(&fields, key)?;
                lint::signers(of.len(), &of, &fields);
                Some(Requirement::AtLeast { count: of.len(), of })
            }
            Combination::AtLeast => {
                let fields = fields.map(key)?;
                fields.only(&["count", "of"]);
                fields.needs("count")?;
                let count =
                    fields.number("count", 1, MAX_PARTS as u64).and_then(|count| usize::try_from(count).ok())?;
                let of = self.parts(&fields, "of")?;
                if count > of.len() {
                    fields.error(format!("{count} of {} can never be met", of.len()));
                } else {
                    lint::signers(count, &of, &fields);
                }
                Some(Requirement::AtLeast { count, of })
            }
        }
    }

    /// The parts of a combination, at least one. No part may occur twice, because its signature must not count twice.
    fn parts(&self, fields: &Fields<'_>, key: &str) -> Option<Vec<Requirement>> {
        let list = fields.list(key);
        if list.is_empty() {
            fields.error(format!("{key} is missing or empty"));
            return None;
        }
        if list.len() > MAX_PARTS {
            fields.error(format!("{key} has more than {MAX_PARTS} parts"));
            return None;
        }
        let parts: Vec<_> = list.iter().map(|node| self.requirement(node, fields)).collect::<Option<_>>()?;
        for (i, part) in parts.iter().enumerate() {
            if parts[..i].contains(part) {
                fields.problems.error(list[i].at, format!("duplicate part in {key}"));
            }
        }
        Some(parts)
    }

    fn named(&self, node: &Node, parent: &Fields<'_>) -> Option<Requirement> {
        let name = text_of(node, "an authority", parent.problems)?;
        let known = self.own.iter().chain(self.settings).find(|authority| authority.name() == name).cloned();
        let builtin = || {
            let scheme = Scheme::Notary(NotaryTrust::default().with_defaults(self.notary));
            (name == NOTARY).then(|| Arc::new(Authority::new(NOTARY, scheme)))
        };
        if name == REJECT {
            return Some(Requirement::Reject);
        }
        let found = known.or_else(builtin).map(Requirement::Authority);
        if found.is_none() {
            let hint = "define it under spec.authorities, or in the configuration";
            parent.problems.error_hint(node.at, format!("no authority is called {name:?}"), hint);
        }
        found
    }
}

/// A duration that is longer than nothing.
pub(super) fn age(fields: &Fields<'_>, key: &str) -> Option<SignedDuration> {
    age_or(fields, key, None)
}

/// As above, with a hint for authors who want no check at all.
pub(super) fn age_or(fields: &Fields<'_>, key: &str, hint: Option<&str>) -> Option<SignedDuration> {
    let age = SignedDuration::try_from(fields.duration(key)?).ok().filter(SignedDuration::is_positive);
    if age.is_none() {
        fields.report_key(ProblemSeverity::Error, key, &format!("{key} must be longer than 0s"), hint);
    }
    age
}
