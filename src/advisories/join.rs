//! Joins what several sources say about one vulnerability of one package.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::find::CandidateMatch;
use super::{FixStatus, MatchedAdvisory};
use crate::policy::{CvssScore, Severity};

/// Joins candidates for the same package that share an identifier. Candidates are in order of preference: the fix,
/// severity and text of the first one count, and the others fill the gaps. The worst score counts.
pub(super) fn join(candidates: Vec<CandidateMatch>) -> Vec<MatchedAdvisory> {
    let firsts = firsts(&candidates);
    let mut joined: Vec<Option<CandidateMatch>> = vec![None; candidates.len()];
    for (candidate, first) in candidates.into_iter().zip(firsts) {
        let place = &mut joined[first];
        *place = Some(match place.take() {
            Some(before) => merged(before, candidate),
            None => candidate,
        });
    }
    let mut matches: Vec<_> = joined.into_iter().flatten().map(finished).collect();
    matches.sort_by(|a, b| (a.package, &a.id).cmp(&(b.package, &b.id)));
    matches
}

/// For each candidate the first one that is the same vulnerability of the same package: they share a name, or each
/// shares one with a third.
fn firsts(candidates: &[CandidateMatch]) -> Vec<usize> {
    // An earlier one of the same vulnerability, or itself.
    let mut earlier: Vec<usize> = (0..candidates.len()).collect();
    let mut by_name: HashMap<(usize, &str), usize> = HashMap::new();
    let most = candidates.iter().map(|candidate| candidate.matched.package + 1).max();
    let mut counts = vec![0_u32; most.unwrap_or_default()];
    candidates.iter().for_each(|candidate| counts[candidate.matched.package] += 1);
    for (index, CandidateMatch { matched, .. }) in candidates.iter().enumerate() {
        // There is nothing to join.
        if counts[matched.package] == 1 {
            continue;
        }
        for name in std::iter::once(&matched.id).chain(&matched.aliases) {
            match by_name.entry((matched.package, name)) {
                Entry::Occupied(known) => {
                    let (one, other) = (first(&mut earlier, *known.get()), first(&mut earlier, index));
                    earlier[one.max(other)] = one.min(other);
                }
                Entry::Vacant(place) => {
                    place.insert(index);
                }
            }
        }
    }
    (0..candidates.len()).map(|index| first(&mut earlier, index)).collect()
}

/// The first candidate of the same vulnerability. The way to it becomes shorter for the next time.
fn first(earlier: &mut [usize], mut index: usize) -> usize {
    while earlier[index] != index {
        earlier[index] = earlier[earlier[index]];
        index = earlier[index];
    }
    index
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
    let CandidateMatch { mut matched, mut advisories } = candidate;
    let MatchedAdvisory { id, aliases, references, .. } = &mut matched;
    for names in [&mut *aliases, &mut advisories] {
        names.sort_unstable();
        names.dedup();
    }
    advisories.retain(|name| aliases.binary_search(name).is_err());
    aliases.append(&mut advisories);
    aliases.retain(|name| !name.is_empty() && name != id);
    references.retain(|list| !list.is_empty());
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(package: usize, id: &str, aliases: &[&str]) -> CandidateMatch {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let matched = MatchedAdvisory { aliases, ..MatchedAdvisory::new(id, package, "osv") };
        CandidateMatch { matched, advisories: vec!["DSA-1".into(), id.to_owned(), "DSA-1".into(), String::new()] }
    }

    /// Two that share no name are one vulnerability if a third has a name of each.
    #[test]
    fn names_are_joined_through_others_and_for_each_package_alone() {
        let joined = join(vec![
            candidate(0, "GHSA-1", &[]),
            candidate(0, "PYSEC-1", &["CVE-1"]),
            candidate(1, "GHSA-1", &[]),
            candidate(0, "OTHER-1", &[]),
            candidate(0, "CVE-1", &["GHSA-1", ""]),
        ]);
        let listed: Vec<_> =
            joined.iter().map(|matched| (matched.package, &*matched.id, matched.aliases.join(" "))).collect();
        let expected = [(0, "CVE-1", "GHSA-1 PYSEC-1 DSA-1"), (0, "OTHER-1", "DSA-1"), (1, "GHSA-1", "DSA-1")];
        assert_eq!(listed, expected.map(|(package, id, aliases)| (package, id, aliases.to_owned())));
    }
}
