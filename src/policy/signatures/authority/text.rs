//! Conditions on texts that a certificate states: an issuer, an identity, a claim.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::Canonical;

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 2048;
/// The maximum memory of a compiled regular expression, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// A pattern of strings. It always covers the whole string.
#[derive(Clone, Debug, PartialEq)]
pub enum TextPattern {
    /// Exactly this text.
    Exact(String),
    /// A pattern in which `*` matches any sequence of characters, including `/`.
    Glob(String),
    /// A regular expression.
    Regex(AnchoredRegex),
}

impl TextPattern {
    /// Whether the text matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Glob(glob) => glob_matches(glob, text),
            Self::Regex(regex) => regex.regex.is_match(text),
        }
    }

    /// The canonical encoding of the form and the text.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (form, text) = match self {
            Self::Exact(text) => ("exact", text),
            Self::Glob(text) => ("glob", text),
            Self::Regex(regex) => ("regex", &regex.text),
        };
        Canonical::default().field("form", form).field("text", text).0
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "{text:?}"),
            Self::Glob(text) => write!(f, "the pattern {text:?}"),
            Self::Regex(regex) => write!(f, "the regular expression {:?}", regex.text),
        }
    }
}

/// A regular expression that always matches the whole text, whether or not it contains `^` and `$`.
///
/// ```
/// use pullgate::policy::AnchoredRegex;
///
/// assert!(AnchoredRegex::new("https://github.com/acme/.+").is_ok());
/// assert!(AnchoredRegex::new("a)|(b").is_err());
/// ```
#[derive(Clone, Debug)]
pub struct AnchoredRegex {
    text: String,
    regex: Regex,
}

impl AnchoredRegex {
    /// Compiles a regular expression in the syntax of the `regex` crate, which is that of RE2 and Go.
    ///
    /// # Errors
    /// Why it cannot be compiled.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN {
            return Err(format!("is longer than {MAX_PATTERN} bytes"));
        }
        let compile = |text: &str| {
            let built = RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
            built.map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
        };
        // Compiled alone first: `a)|(b` is only valid within the group that is added, and is not anchored there.
        compile(text)?;
        // An expression in extended mode may end with a comment, which only a line break ends.
        let regex = compile(&format!(r"\A(?:{text})\z")).or_else(|_| compile(&format!("\\A(?:{text}\n)\\z")))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether it matches texts that have nothing in common, so that it is not a condition.
    pub(in crate::policy) fn matches_everything(&self) -> bool {
        self.regex.is_match("\u{1}") && self.regex.is_match("https://example.com/\u{2}")
    }
}

impl PartialEq for AnchoredRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Takes the leftmost position for each literal part, which leaves the most text for the others; time is linear in the
/// length of the text for each part.
fn glob_matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(text: &str) -> TextPattern {
        TextPattern::Regex(AnchoredRegex::new(text).unwrap())
    }

    #[test]
    fn patterns_cover_the_whole_text() {
        let [exact, glob] = [TextPattern::Exact, TextPattern::Glob].map(|of| move |text: &str| of(text.to_owned()));
        for (pattern, yes, no) in [
            (exact("a*"), vec!["a*"], vec!["a", "ab", "a*b", ""]),
            (glob("a"), vec!["a"], vec!["", "ab", "ba"]),
            (glob("a*"), vec!["a", "ab/c"], vec!["", "ba"]),
            (glob("*a"), vec!["a", "ba"], vec!["ab"]),
            (glob("a*a"), vec!["aa", "aba"], vec!["a", "ab"]),
            (glob("a*b*c"), vec!["abc", "axbxc", "abbc"], vec!["ac", "acb", "abcx"]),
            (glob("*ab*ab*"), vec!["abab", "xabxabx"], vec!["ab", "aba"]),
            (regex("a"), vec!["a"], vec!["ab", "ba", "a\n"]),
            (regex("a|bc"), vec!["a", "bc"], vec!["ac", "abc", "b"]),
            (regex("^a$"), vec!["a"], vec!["a\n", "xa"]),
            (regex("(?m)^a$"), vec!["a"], vec!["a\nb", "b\na"]),
            (regex("(?x) a # comment"), vec!["a"], vec!["ab", "ba"]),
            (regex("a#b"), vec!["a#b"], vec!["a#b\n", "a"]),
            (
                regex("https://github\\.com/acme/.+"),
                vec!["https://github.com/acme/x"],
                vec![
                    "https://github.com/acme/",
                    "https://github.com/acme-evil/x",
                    "https://evil.com/https://github.com/acme/x",
                ],
            ),
        ] {
            yes.iter().for_each(|text| assert!(pattern.matches(text), "{pattern} {text:?}"));
            no.iter().for_each(|text| assert!(!pattern.matches(text), "{pattern} {text:?}"));
        }
    }

    #[test]
    fn expressions_that_cannot_be_anchored_or_bounded_are_refused() {
        let long = "a".repeat(MAX_PATTERN + 1);
        for (text, part) in [
            ("a)|(b", "unopened group"),
            ("(a", "unclosed group"),
            ("(?=a)b", "look-around"),
            (r"(a)\1", "backreferences"),
            ("((a{100}){100}){100}", "size limit"),
            (&long, "longer than 2048 bytes"),
        ] {
            let error = AnchoredRegex::new(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(AnchoredRegex::new(".*").unwrap().matches_everything());
        assert!(!AnchoredRegex::new("https://.+").unwrap().matches_everything());
    }
}
