//! The names of `repositories` entries: patterns in which `*` matches any sequence of characters, including `/`, `:`
//! and `@`.
//!
//! The rules are those of Portieris 0.14.2 (`helpers/wildcard`). A pattern with a `/` is split at the first one, and
//! its host part must match only the first segment of the reference. A pattern without a `/` is matched against the
//! whole reference. Each pattern is tried as written and with `:*` appended. Hosts are compared without regard to case.
//! For each literal run of the pattern, matching takes linear time in the length of the text. There is no backtracking.

use std::borrow::Cow;

use crate::oci::{DOCKER_HUB_NAMES, Digest, Host, is_registry};

/// The maximum length of a pattern, in bytes. This is more than enough for a repository, a host and a digest.
pub(in crate::policy) const MAX_PATTERN: usize = 1024;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) struct Pattern {
    /// The pattern, with its host in the form that [`Host`] writes.
    text: Box<str>,
    parts: Parts,
    literals: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Parts {
    /// A pattern without a `/`.
    Whole(Globs),
    Split {
        host: Glob,
        rest: Globs,
    },
}

impl Pattern {
    /// Compiles a pattern. Every text is a valid pattern.
    ///
    /// A name with a tag and a digest means the digest, which identifies the image and is all that clients request.
    pub(in crate::policy) fn new(text: &str) -> Self {
        let text = &*without_tag(text);
        let literals = text.bytes().filter(|&c| c != b'*').count();
        match text.split_once('/') {
            None => Self { text: text.into(), parts: Parts::Whole(Globs::new(text)), literals },
            Some((host, rest)) => {
                let host = canonical_host(host);
                Self {
                    text: format!("{host}/{rest}").into(),
                    parts: Parts::Split { host: Glob::new(&host), rest: Globs::new(rest) },
                    literals,
                }
            }
        }
    }

    /// Whether a reference matches.
    pub(in crate::policy) fn matches(&self, spelling: &Spelling) -> bool {
        match &self.parts {
            Parts::Whole(globs) => globs.matches(&spelling.text, spelling.host.unwrap_or(0)),
            Parts::Split { host, rest } => spelling
                .split()
                .is_some_and(|(first, other)| host.matches(first.as_bytes(), first.len()) && rest.matches(other, 0)),
        }
    }

    /// Whether this pattern surely matches everything that another one matches.
    pub(in crate::policy) fn covers(&self, other: &Self) -> bool {
        // Only a star matches a character that no name has.
        let any = other.text.replace('*', "\0");
        let text = if any.bytes().all(|byte| byte == 0) { "\0/\0".to_owned() } else { any };
        let tagged = format!("{text}:\0");
        [text, tagged].into_iter().any(|text| self.matches(&Spelling::new(text)))
    }

    /// Whether the pattern can match an image of this registry.
    pub(in crate::policy) fn may_match(&self, host: &Host) -> bool {
        let is_hub = host.is_docker_hub();
        match &self.parts {
            // Only a star goes beyond the host. Names of Docker Hub may have no host.
            Parts::Whole(_) => {
                let start = self.text.split_once('*').map(|(start, _)| start.to_ascii_lowercase());
                is_hub || start.is_some_and(|start| host.as_str().starts_with(&start))
            }
            Parts::Split { host: glob, .. } => {
                let first = self.text.split_once('/').map_or(&*self.text, |(first, _)| first);
                let is_short = is_hub && !is_registry(first);
                let is_named = |name: &str| glob.matches(name.as_bytes(), name.len());
                is_short || is_named(host.as_str()) || is_hub && DOCKER_HUB_NAMES.into_iter().any(is_named)
            }
        }
    }

    /// The part that is matched with the host, if the pattern has more than one.
    pub(in crate::policy) fn host(&self) -> Option<&str> {
        self.text.split_once('/').map(|(host, _)| host)
    }

    /// The only text that the pattern matches, if the pattern contains no `*`.
    pub(in crate::policy) fn exact(&self) -> Option<&str> {
        (!self.text.contains('*')).then_some(&*self.text)
    }

    /// The literal texts between the stars. A matching reference contains each of them. Those of the host part are in
    /// lower case.
    pub(in crate::policy) fn runs(&self) -> impl Iterator<Item = &str> {
        self.text.split('*').filter(|run| !run.is_empty())
    }

    /// The specificity of the pattern: the number of its bytes that are not `*` (Portieris, `FindImagePolicy`).
    pub(in crate::policy) fn literals(&self) -> usize {
        self.literals
    }
}

/// The name without its tag, if it also has a digest.
fn without_tag(text: &str) -> Cow<'_, str> {
    let digest = |(_, digest): &(&str, &str)| digest.parse::<Digest>().is_ok();
    let Some((name, digest)) = text.split_once('@').filter(digest) else { return text.into() };
    let path = name.find('/').map_or(0, |at| at + 1);
    match name[path..].find(':') {
        Some(tag) if !name.contains('*') => format!("{}@{digest}", &name[..path + tag]).into(),
        _ => text.into(),
    }
}

/// Returns a host in the form that [`Host`] writes, which is the form in references. A pattern that is not a host is
/// unchanged.
fn canonical_host(text: &str) -> String {
    match text.parse::<Host>() {
        Ok(host) if text.contains(['.', ':']) => host.as_str().to_owned(),
        _ => text.strip_suffix(":443").unwrap_or(text).to_ascii_lowercase(),
    }
}

/// One spelling of a reference.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) struct Spelling {
    text: String,
    /// The position of the first `/`.
    host: Option<usize>,
}

impl Spelling {
    pub(in crate::policy) fn new(text: String) -> Self {
        Self { host: text.find('/'), text }
    }

    pub(in crate::policy) fn as_str(&self) -> &str {
        &self.text
    }

    fn split(&self) -> Option<(&str, &str)> {
        self.host.map(|at| (&self.text[..at], &self.text[at + 1..]))
    }
}

/// A pattern as written, and with `:*` appended if that makes a difference.
#[derive(Clone, Debug, PartialEq)]
struct Globs {
    written: Glob,
    any_tag: Option<Glob>,
}

impl Globs {
    fn new(text: &str) -> Self {
        let any_tag = (!text.ends_with('*')).then(|| Glob::new(&format!("{text}:*")));
        Self { written: Glob::new(text), any_tag }
    }

    fn matches(&self, text: &str, host: usize) -> bool {
        let text = text.as_bytes();
        self.written.matches(text, host) || self.any_tag.as_ref().is_some_and(|glob| glob.matches(text, host))
    }
}

/// The literal runs between the stars.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) struct Glob {
    /// The prefix of the text.
    first: Box<[u8]>,
    /// The runs that follow, in this order; `None` if there is no star.
    rest: Option<PatternRest>,
}

#[derive(Clone, Debug, PartialEq)]
struct PatternRest {
    middle: Vec<Box<[u8]>>,
    last: Box<[u8]>,
}

impl Glob {
    pub(in crate::policy) fn new(text: &str) -> Self {
        let mut runs = text.split('*').map(|run| Box::from(run.as_bytes()));
        let first = runs.next().unwrap_or_default();
        let mut middle: Vec<Box<[u8]>> = runs.collect();
        let rest = middle
            .pop()
            .map(|last| PatternRest { middle: middle.into_iter().filter(|m| !m.is_empty()).collect(), last });
        Self { first, rest }
    }

    /// Whether the whole text matches, case included.
    pub(in crate::policy) fn matches_text(&self, text: &str) -> bool {
        self.matches(text.as_bytes(), 0)
    }

    /// The first `host` bytes of the text are a host in lower case and are compared without regard to case. Each middle
    /// run is matched at its leftmost position, which leaves the most space for the other runs.
    fn matches(&self, text: &[u8], host: usize) -> bool {
        let Some(rest) = &self.rest else {
            return self.first.len() == text.len() && run_at(&self.first, text, 0, host);
        };
        if self.first.len() + rest.last.len() > text.len() || !run_at(&self.first, text, 0, host) {
            return false;
        }
        let end = text.len() - rest.last.len();
        if !run_at(&rest.last, text, end, host) {
            return false;
        }
        let mut from = self.first.len();
        for run in &rest.middle {
            let Some(found) = (from..=end.saturating_sub(run.len())).find(|&at| run_at(run, text, at, host)) else {
                return false;
            };
            from = found + run.len();
        }
        from <= end
    }
}

/// Whether the text contains the run at this position. Returns false if the text is too short.
fn run_at(run: &[u8], text: &[u8], at: usize, host: usize) -> bool {
    let Some(there) = text.get(at..at + run.len()) else { return false };
    if at >= host {
        return run == there;
    }
    run.iter().zip(there).enumerate().all(|(i, (p, t))| p == t || (at + i < host && p.to_ascii_lowercase() == *t))
}

#[cfg(test)]
mod tests;
