//! Joins what several sources say about one vulnerability of one package.

use std::collections::HashMap;

use super::find::CandidateMatch;
use super::{FixStatus, MatchedAdvisory};
use crate::policy::{CvssScore, Severity};

/// Joins candidates for the same package that share an identifier. The order of candidates is that of preference: what the
/// first states about fix, severity and text counts, and the others fill what it leaves open. The worst score counts.
pub(super) fn join(candidates: Vec<CandidateMatch>) -> Vec<MatchedAdvisory> {
    let mut groups: Vec<Option<CandidateMatch>> = Vec::with_capacity(candidates.len());
    let mut by_name: HashMap<(usize, String), usize> = HashMap::new();
    for candidate in candidates {
        let package = candidate.matched.package;
        let names = |candidate: &CandidateMatch| {
            let matched = &candidate.matched;
            std::iter::once(&matched.id).chain(&matched.aliases).map(|name| (package, name.clone())).collect::<Vec<_>>()
        };
        let mut known: Vec<usize> = names(&candidate).iter().filter_map(|name| by_name.get(name).copied()).collect();
        known.sort_unstable();
        known.dedup();
        let group = known.first().copied().unwrap_or(groups.len());
        let parts: Vec<CandidateMatch> =
            known.iter().filter_map(|index| groups[*index].take()).chain([candidate]).collect();
        let Some(joined) = parts.into_iter().reduce(merged) else { continue };
        by_name.extend(names(&joined).into_iter().map(|name| (name, group)));
        if group == groups.len() {
            groups.push(Some(joined));
        } else {
            groups[group] = Some(joined);
        }
    }
    let mut matches: Vec<_> = groups.into_iter().flatten().map(finished).collect();
    matches.sort_by(|a, b| (a.package, &a.id).cmp(&(b.package, &b.id)));
    matches
}

/// Adds what the second states and the first leaves open.
fn merged(mut first: CandidateMatch, second: CandidateMatch) -> CandidateMatch {
    let (into, from) = (&mut first.matched, second.matched);
    let other_id = if from.id.starts_with("CVE-") && !into.id.starts_with("CVE-") {
        std::mem::replace(&mut into.id, from.id)
    } else {
        from.id
    };
    into.aliases.push(other_id);
    into.aliases.extend(from.aliases);
    if into.fixed.is_none() && from.fixed.is_some() {
        (into.fixed, into.status) = (from.fixed, from.status);
    } else if into.status == FixStatus::Unknown {
        into.status = from.status;
    }
    into.ratings.extend(from.ratings);
    into.ratings.extend(from.severity_source.clone().map(|source| (source, from.severity)));
    if into.severity == Severity::Unknown {
        (into.severity, into.severity_source) = (from.severity, from.severity_source);
    }
    into.score = into.score.take().into_iter().chain(from.score).reduce(CvssScore::worse);
    into.title = into.title.take().or(from.title);
    into.published = into.published.or(from.published);
    into.modified = into.modified.max(from.modified);
    into.references.extend(from.references);
    first.advisories.extend(second.advisories);
    first
}

/// Lists every name once, and vendors' advisories after the other names.
fn finished(candidate: CandidateMatch) -> MatchedAdvisory {
    let mut matched = candidate.matched;
    matched.aliases.sort_unstable();
    let mut advisories = candidate.advisories;
    advisories.sort_unstable();
    matched.aliases.extend(advisories);
    let mut seen = std::collections::HashSet::from([matched.id.clone()]);
    matched.aliases.retain(|alias| !alias.is_empty() && seen.insert(alias.clone()));
    matched.references.retain(|list| !list.is_empty());
    matched
}
