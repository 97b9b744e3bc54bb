//! Warnings about names of entries, and about thresholds, that do not mean what they seem to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::markup::{Fields, Member, Node, Place, ProblemSeverity, Problems, Value};
use crate::oci::{Algorithm, Digest, ImageReference, is_registry};
use crate::policy::checks::distinct::distinct;
use crate::policy::matching::pattern::MAX_PATTERN;
use crate::policy::rules::rule::Requirement;
use crate::policy::signatures::authority::{Authority, KeyValidity};
use crate::policy::signatures::same_signer::SameSigner;

/// Checks the names of a document's entries. `severity` is a warning in the IBM dialects, because policies in use must
/// keep working, and an error in ours.
pub(super) fn names(list: &[Node], problems: &Problems, severity: ProblemSeverity) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (at, name) in list.iter().filter_map(|node| node.find("name")).filter_map(|n| Some((n.at, n.as_text()?))) {
        if name.len() > MAX_PATTERN {
            problems.error(at, format!("a name is longer than {MAX_PATTERN} bytes"));
            continue;
        }
        if let Some(first) = seen.get(name) {
            let hint = "remove one of them";
            problems.report(
                severity,
                at,
                format!(
                    "duplicate name {name:?}: this entry is never used, because the entry on line {} has the same name",
                    first.line
                ),
                Some(hint.into()),
            );
        } else {
            seen.insert(name, at);
        }
        open_host(name, at, problems, severity);
        never_matches(name, at, problems, severity);
        matches_less(name, at, problems);
    }
}

/// `policy:` with nothing after it means `{}`, and is often an indentation mistake.
pub(super) fn null_policy(fields: &Fields<'_>) {
    let empty = |entry: &&Member| entry.key == "policy" && entry.node.value == Value::Null;
    if let Some(entry) = fields.members().iter().find(empty) {
        fields.problems.warn(entry.at, "policy is empty: no check", "write policy: {} if that is intended");
    }
}

/// Reports every key without a value, at any depth: its content may be commented out or wrongly indented. It would
/// count as absent, and so disable a check or a limit. An entry without `policy` has no check anyway: see
/// [`null_policy`].
pub(super) fn empty_keys(members: &[Member], problems: &Problems) {
    for member in members.iter().filter(|member| member.key != "policy" || member.node.value != Value::Null) {
        if member.node.value == Value::Null {
            let message = format!("{} is empty", member.key);
            problems.error_hint(member.at, message, "write its value, or remove the key");
        }
        empty_keys_in(&member.node, problems);
    }
}

fn empty_keys_in(node: &Node, problems: &Problems) {
    match &node.value {
        Value::Map(members) => empty_keys(members, problems),
        Value::List(items) => items.iter().for_each(|item| empty_keys_in(item, problems)),
        _ => {}
    }
}

/// Warns about keys of an authority that can never count, or no longer count.
pub(super) fn validity(authority: &Authority, now: Option<Timestamp>, problems: &Problems, at: Place) {
    let name = authority.name();
    for (key, validity) in authority.limited_keys() {
        let KeyValidity { from, until } = validity;
        let ended = now.is_some_and(|now| validity.has_ended(now));
        match (from, until) {
            (Some(from), Some(until)) if validity.is_empty() => {
                let message = format!("{name:?}: the {key} is never valid: validFrom {from} is not before {until}");
                problems.warn(at, message, "swap validFrom and validUntil, or correct one of them");
            }
            (_, Some(until)) if ended => {
                let message = format!("{name:?}: the validity of the {key} ended at {until}");
                let hint = "remove the key, unless older signatures with a proven time of signing must count";
                problems.warn(at, message, hint);
            }
            _ => {}
        }
    }
}

/// A threshold counts signers, not names: warns if two parts share a key, and if there are not enough keys.
pub(super) fn signers(count: usize, parts: &[Requirement], fields: &Fields<'_>) {
    let parts: Vec<_> = parts.iter().map(Requirement::authorities).collect();
    let same = SameSigner::of(parts.iter().flatten().flat_map(|authority| authority.key_sets()));
    for (at, part) in parts.iter().enumerate() {
        for (one, other) in parts[..at].iter().filter_map(|earlier| share_a_signer(earlier, part, &same)) {
            let message = format!("{:?} and {:?} share a key: a signature by it counts once", one.name(), other.name());
            fields.warn(message, "give each its own key, or remove one of the names");
        }
    }
    let signers: Vec<BTreeSet<_>> =
        parts.iter().map(|part| part.iter().flat_map(|one| same.signers(one.signers())).collect()).collect();
    let most = distinct(&signers);
    if count > most {
        let their = if most == 1 { "its" } else { "their" };
        let message = format!(
            "{count} signatures by different keys can never exist: only {most} of the parts can have {their} own key"
        );
        fields.warn(message, "every image that this selects is denied; add keys or lower the count");
    }
}

/// Two different authorities, one of each part, that one signature satisfies.
fn share_a_signer<'a>(
    one: &'a [Arc<Authority>],
    other: &'a [Arc<Authority>],
    same: &SameSigner,
) -> Option<(&'a Authority, &'a Authority)> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (&**a, &**b)));
    let signers = |authority: &Authority| same.signers(authority.signers());
    pairs.into_iter().find(|(a, b)| a.id() != b.id() && !signers(a).is_disjoint(&signers(b)))
}

/// A host that ends in `*` reaches hosts of others: `test.com*` matches `test.com.evil.io/a`. So does one that begins
/// with a `*` that no dot follows: `*icr.io` matches `evilicr.io`.
pub(super) fn open_host(name: &str, at: Place, problems: &Problems, severity: ProblemSeverity) {
    let host = name.split('/').next().unwrap_or_default();
    let bare = host.trim_matches('*');
    // A pattern with white space matches nothing, and is reported as such.
    if bare.is_empty() || name.contains(char::is_whitespace) {
        return;
    }
    // After a colon there can only be a port.
    let is_port = host.ends_with(":*") && !host.contains('[');
    if host.ends_with('*') && !is_port {
        let message =
            format!("the host of {name:?} ends in *, so it matches hosts that others can own: {bare}.evil.io");
        let hint = format!("write {bare}/* for all of that host");
        problems.report(severity, at, message, Some(hint));
    } else if host.starts_with('*') && !bare.starts_with(['.', ':']) {
        let message = format!("{name:?} matches hosts that others can own: evil{bare}");
        problems.warn(at, message, format!("write *.{bare}"));
    }
}

/// Reports a name that no image reference has, so that the entry is never used.
pub(super) fn never_matches(name: &str, at: Place, problems: &Problems, severity: ProblemSeverity) {
    let why = if name.contains("://") {
        "it has a scheme; a name begins with the host"
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "it has whitespace"
    } else if !name.is_ascii() || name.contains(['?', '[', ']', '\\', '"', '{', '}', '%']) && !name.starts_with('[') {
        "it has characters that no image reference has; the only wildcard is *"
    } else if repository(name).bytes().any(|c| c.is_ascii_uppercase()) {
        "a repository is lower case"
    } else if is_host(name) {
        let hint = format!("write {name}/* for all of that host");
        let message = format!("{name:?} can match nothing: it is a host alone");
        problems.report(severity, at, message, Some(hint));
        return;
    } else if has_tag_beside_digest(name) {
        "clients ask for the digest alone; leave the tag out"
    } else if !can_be_an_image(name) {
        "it is not the name of an image: HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST"
    } else {
        return;
    };
    problems.report(severity, at, format!("{name:?} can match nothing: {why}"), None);
}

/// Warns of a name that matches less than it seems to, so that another entry decides on the rest.
fn matches_less(name: &str, at: Place, problems: &Problems) {
    let reference = name.parse::<ImageReference>();
    let is_library = |found: &ImageReference| {
        found.name.host.is_docker_hub()
            && found.name.repository.as_str() == "library/library"
            && found.tag.is_none()
            && found.digest.is_none()
    };
    let repository = name.strip_suffix(":*").filter(|start| !start.ends_with('*') && !start.contains('@'));
    if !name.contains(['/', ':', '@']) && name.rsplit('*').next().is_some_and(|end| end != name && end.contains('.')) {
        let message = format!("{name:?} matches no image of the hosts that it seems to mean: it is a host alone");
        problems.warn(at, message, format!("write {name}/*"));
    } else if reference.as_ref().is_ok_and(is_library) {
        let message = format!("{name:?} is an image called library, not the official images");
        problems.warn(at, message, "write docker.io/library/*".to_owned());
    } else if let Some(repository) = repository.filter(|start| start.contains('/') || !start.contains('.')) {
        let message = format!(
            "{name:?} covers all tags, but a pull by digest only while a tag of it is known; otherwise another entry decides"
        );
        problems.warn(at, message, format!("write {repository} for all tags and digests"));
    }
}

/// Whether a pattern has both a tag and a digest. Such a name without stars means the digest.
fn has_tag_beside_digest(name: &str) -> bool {
    let is_digest = |(_, digest): &(&str, &str)| digest.parse::<Digest>().is_ok();
    let path = name.split_once('@').filter(is_digest).and_then(|(name, _)| name.split_once('/'));
    name.contains('*') && path.is_some_and(|(_, path)| path.contains(':'))
}

/// Whether a digest can begin with this text, which ends at an ellipsis.
fn may_begin_a_digest(start: &str) -> bool {
    Algorithm::ALL
        .iter()
        .map(|algorithm| format!("{}:", algorithm.name()))
        .any(|algorithm| start.starts_with(&algorithm) || algorithm.starts_with(start))
}

/// Whether this is a host without a repository, which names an image on Docker Hub that does not exist.
fn is_host(name: &str) -> bool {
    // What follows a colon may be a tag.
    let host = name.split([':', '@']).next().unwrap_or_default();
    !name.contains(['/', '*']) && is_registry(host)
}

/// Whether some image can have a name that matches: one with something in the place of each `*`.
pub fn can_be_an_image(name: &str) -> bool {
    // Addresses and digests with an ellipsis.
    let digest = name.split_once('@').and_then(|(_, rest)| rest.split_once('*'));
    if name.starts_with('[') && name.contains('*') || digest.is_some_and(|(start, _)| may_begin_a_digest(start)) {
        return true;
    }
    // The first component may also be that of a repository on Docker Hub. Hosts are compared without regard to case.
    let name = match name.split_once('/') {
        Some((first, rest)) => format!("{}/{rest}", first.to_ascii_lowercase()),
        None if name.contains('*') => name.to_ascii_lowercase(),
        None => name.to_owned(),
    };
    let is_image = |text: &str| text.parse::<ImageReference>().is_ok();
    let last = || name.rsplit_once('*').map(|(start, end)| format!("{}1:1{end}", start.replace('*', "1")));
    is_image(&name.replace('*', "1")) || last().is_some_and(|text| is_image(&text))
}

/// The part between the host and the tag or digest.
fn repository(name: &str) -> &str {
    let path = name.split_once('/').map_or("", |(_, path)| path);
    path.split([':', '@']).next().unwrap_or_default()
}
