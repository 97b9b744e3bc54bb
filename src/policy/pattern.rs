//! The names of `repositories` entries: patterns in which `*` matches any run of characters, `/`, `:` and `@` included.
//!
//! The rules are Portieris 0.14.2's (`helpers/wildcard`): a pattern with a `/` is split at its first one, and its host
//! part must match the first segment of the reference alone; a pattern without is matched against all of the reference;
//! each is tried as written and with `:*` appended. The host compares without regard to case. Matching takes time
//! linear in the text for each literal run of the pattern: nothing is ever tried twice.

use crate::oci::Host;

/// The longest pattern, in bytes: a repository, a host and a digest fit with room to spare.
pub(super) const MAX_PATTERN: usize = 1024;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    /// The pattern with its host as [`Host`] writes it.
    text: Box<str>,
    parts: Parts,
    literals: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Parts {
    /// No `/` in it.
    Whole(Globs),
    Split {
        host: Glob,
        rest: Globs,
    },
}

impl Pattern {
    /// Compiles a pattern; every text is one.
    pub(super) fn new(text: &str) -> Self {
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
    pub(super) fn matches(&self, spelling: &Spelling) -> bool {
        match &self.parts {
            Parts::Whole(globs) => globs.matches(&spelling.text, spelling.host.unwrap_or(0)),
            Parts::Split { host, rest } => spelling
                .split()
                .is_some_and(|(first, other)| host.matches(first.as_bytes(), first.len()) && rest.matches(other, 0)),
        }
    }

    /// The only text that the pattern equals, where it has no `*`.
    pub(super) fn exact(&self) -> Option<&str> {
        (!self.text.contains('*')).then_some(&*self.text)
    }

    /// The literal texts between its stars. A reference that matches contains each of them, the host's part in lower case.
    pub(super) fn runs(&self) -> impl Iterator<Item = &str> {
        self.text.split('*').filter(|run| !run.is_empty())
    }

    /// How specific it is: its bytes that are not `*` (Portieris, `FindImagePolicy`).
    pub(super) fn literals(&self) -> usize {
        self.literals
    }
}

/// As [`Host`] writes it, which is how references come; a pattern that is no host keeps its text.
fn canonical_host(text: &str) -> String {
    match text.parse::<Host>() {
        Ok(host) if text.contains(['.', ':']) => host.as_str().to_owned(),
        _ => text.strip_suffix(":443").unwrap_or(text).to_ascii_lowercase(),
    }
}

/// One way to write a reference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spelling {
    text: String,
    /// Where the first `/` is.
    host: Option<usize>,
}

impl Spelling {
    pub(super) fn new(text: String) -> Self {
        Self { host: text.find('/'), text }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    fn split(&self) -> Option<(&str, &str)> {
        self.host.map(|at| (&self.text[..at], &self.text[at + 1..]))
    }
}

/// A pattern as written, and with `:*` appended where that adds something.
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

/// Literal runs between stars.
#[derive(Clone, Debug, PartialEq)]
struct Glob {
    /// What the text begins with.
    first: Box<[u8]>,
    /// What follows, in this order; `None` where there is no star.
    rest: Option<PatternRest>,
}

#[derive(Clone, Debug, PartialEq)]
struct PatternRest {
    middle: Vec<Box<[u8]>>,
    last: Box<[u8]>,
}

impl Glob {
    fn new(text: &str) -> Self {
        let mut runs = text.split('*').map(|run| Box::from(run.as_bytes()));
        let first = runs.next().unwrap_or_default();
        let mut middle: Vec<Box<[u8]>> = runs.collect();
        let rest = middle
            .pop()
            .map(|last| PatternRest { middle: middle.into_iter().filter(|m| !m.is_empty()).collect(), last });
        Self { first, rest }
    }

    /// The first `host` bytes of the text are a host, lower case, and compare without regard to case. Each middle run
    /// is taken at its leftmost place, which leaves the most room for the others.
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

/// Whether the run stands at this place of the text, which is long enough for it or the answer is no.
fn run_at(run: &[u8], text: &[u8], at: usize, host: usize) -> bool {
    let Some(there) = text.get(at..at + run.len()) else { return false };
    if at >= host {
        return run == there;
    }
    run.iter().zip(there).enumerate().all(|(i, (p, t))| p == t || (at + i < host && p.to_ascii_lowercase() == *t))
}

#[cfg(test)]
mod tests;
