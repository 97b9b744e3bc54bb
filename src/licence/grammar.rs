//! How names of licences are joined.

use std::sync::LazyLock;

use regex::Regex;

use super::{exception, family, identifier, pattern, unknown};

/// The maximum number of terms and the maximum nesting of a text whose structure is used.
const MAX_TERMS: usize = 64;
const MAX_DEPTH: usize = 16;
/// The maximum number of words in a name that directly follows another one.
const MAX_WORDS: usize = 6;

/// A part of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum LicenceToken {
    /// The identifier of a licence, or of an unknown part.
    Term(String),
    /// An exception to the licence before it, or another addition.
    With(String),
    And,
    Or,
    /// A comma, or `, and`. It binds less than all others.
    ListAnd,
    /// `, or`. It binds less than all others but a comma.
    ListOr,
    Open,
    Close,
}

/// Splits a text into names and what joins them.
pub(super) fn tokens(text: &str) -> Vec<LicenceToken> {
    static JOINT: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?i)(?:\s*,)?[\s_]+(?:and/or|and|or)[\s_]+|[\s_-]+(?:with|w/)[\s_-]+|[,;&|()]"));
    let (mut tokens, mut at, mut is_addition) = (Vec::new(), 0, false);
    for joint in JOINT.find_iter(text).map(Some).chain([None]) {
        let end = joint.map_or(text.len(), |found| found.start());
        let name = text[at..end].trim();
        if !name.is_empty() {
            match std::mem::take(&mut is_addition) {
                true => tokens.push(LicenceToken::With(name.to_owned())),
                false => terms(name, &mut tokens),
            }
        }
        let Some(joint) = joint else { break };
        at = joint.end();
        let word = joint.as_str().trim_matches(|character: char| character.is_whitespace() || "_-".contains(character));
        let (is_list, word) = match word.strip_prefix(',') {
            Some(rest) => (true, rest.trim_matches(|character: char| character.is_whitespace() || character == '_')),
            None => (false, word),
        };
        tokens.push(match (word.to_ascii_lowercase().as_str(), is_list) {
            ("with" | "w/", _) => {
                is_addition = true;
                continue;
            }
            ("(", _) => LicenceToken::Open,
            (")", _) => LicenceToken::Close,
            ("or" | "and/or", true) => LicenceToken::ListOr,
            ("or" | "and/or" | "|", false) => LicenceToken::Or,
            ("and" | "&", false) => LicenceToken::And,
            _ => LicenceToken::ListAnd,
        });
    }
    tokens
}

/// One name; or several, joined by `/`, which is a choice, or by spaces alone (`MIT BSD GPL2+`), which apply as a
/// whole.
fn terms(name: &str, tokens: &mut Vec<LicenceToken>) {
    if is_name(name) {
        return tokens.push(term(name));
    }
    let choices: Vec<&str> = name.split('/').filter(|part| !part.trim().is_empty()).collect();
    let (parts, joint) = match choices.len() > 1 && choices.iter().all(|part| is_name(part)) {
        true => (choices.into_iter().map(term).collect(), LicenceToken::Or),
        false => (words(name).unwrap_or_else(|| with_mentions(name)), LicenceToken::And),
    };
    if let [_] = parts[..] {
        return tokens.extend(parts);
    }
    tokens.push(LicenceToken::Open);
    for (index, part) in parts.into_iter().enumerate() {
        tokens.extend(Some(joint.clone()).filter(|_| index > 0));
        tokens.push(part);
    }
    tokens.push(LicenceToken::Close);
}

fn is_name(text: &str) -> bool {
    identifier(text).is_some() || family(text).is_some()
}

fn term(name: &str) -> LicenceToken {
    LicenceToken::Term(identifier(name).unwrap_or_else(|| unknown(name)))
}

/// An unknown part, with the licences that single words of it name: they may apply.
fn with_mentions(text: &str) -> Vec<LicenceToken> {
    let is_digit = |character: char| character.is_ascii_digit();
    let words = text.split_whitespace().filter(|word| *word != text && word.contains(is_digit));
    let named = words.filter_map(identifier).map(LicenceToken::Term);
    std::iter::once(term(text)).chain(named).collect()
}

/// Splits a text into names that follow one another directly, longest first. `None` if a word is left over.
fn words(text: &str) -> Option<Vec<LicenceToken>> {
    let (words, mut names) = (text.split_whitespace().collect::<Vec<_>>(), Vec::new());
    let mut rest = &words[..];
    while !rest.is_empty() {
        let lengths = (1..=rest.len().min(MAX_WORDS)).rev();
        let (name, length) =
            lengths.map(|length| (rest[..length].join(" "), length)).find(|(name, _)| is_name(name))?;
        names.push(term(&name));
        rest = &rest[length..];
    }
    Some(names)
}

/// The expression of the tokens. If brackets are missing or there are too many terms, all terms apply.
pub(super) fn expression(tokens: &[LicenceToken]) -> String {
    let terms = tokens.iter().filter(|token| matches!(token, LicenceToken::Term(_) | LicenceToken::With(_))).count();
    let mut rest = tokens;
    let parsed = (terms <= MAX_TERMS).then(|| list(&mut rest, MAX_DEPTH)).flatten();
    parsed.filter(|_| rest.is_empty()).unwrap_or_else(|| all(tokens))
}

/// All terms, joined by `AND`.
fn all(tokens: &[LicenceToken]) -> String {
    let mut terms: Vec<String> = Vec::new();
    for token in tokens {
        let term = match token {
            LicenceToken::Term(term) => term.clone(),
            LicenceToken::With(addition) => unknown(addition),
            _ => continue,
        };
        let is_new = !terms.contains(&term) && (terms.len() < MAX_TERMS || !super::is_unknown(&term));
        terms.extend(Some(term).filter(|_| is_new));
    }
    terms.join(" AND ")
}

/// Parts that are separated by commas.
fn list(tokens: &mut &[LicenceToken], depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    joined(
        tokens,
        |token| *token == LicenceToken::ListAnd,
        " AND ",
        |tokens| {
            joined(
                tokens,
                |token| *token == LicenceToken::ListOr,
                " OR ",
                |tokens| {
                    joined(
                        tokens,
                        |token| *token == LicenceToken::Or,
                        " OR ",
                        |tokens| {
                            // Terms that follow each other without a word apply as a whole.
                            let is_and = |token: &LicenceToken| {
                                matches!(token, LicenceToken::And | LicenceToken::Term(_) | LicenceToken::Open)
                            };
                            joined(tokens, is_and, " AND ", |tokens| atom(tokens, depth))
                        },
                    )
                },
            )
        },
    )
}

/// Parts with the same operator between them. Alternatives that are parts of something stricter get brackets.
fn joined(
    tokens: &mut &[LicenceToken],
    is_operator: impl Fn(&LicenceToken) -> bool,
    operator: &str,
    part: impl Fn(&mut &[LicenceToken]) -> Option<String>,
) -> Option<String> {
    let mut parts = vec![part(tokens)?];
    while let Some(token) = tokens.first().filter(|token| is_operator(token)) {
        if !matches!(token, LicenceToken::Term(_) | LicenceToken::Open) {
            *tokens = &tokens[1..];
        }
        parts.push(part(tokens)?);
    }
    if parts.len() > 1 && operator == " AND " {
        let is_choice = |part: &&mut String| part.contains(" OR ") && !is_bracketed(part);
        parts.iter_mut().filter(is_choice).for_each(|part| *part = format!("({part})"));
    }
    Some(parts.join(operator))
}

/// Whether one pair of brackets encloses the whole text.
fn is_bracketed(text: &str) -> bool {
    text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).is_some_and(|text| !text.contains(['(', ')']))
}

/// A licence with its exceptions, or an expression in brackets.
fn atom(tokens: &mut &[LicenceToken], depth: usize) -> Option<String> {
    let (first, rest) = tokens.split_first()?;
    *tokens = rest;
    let mut text = match first {
        LicenceToken::Term(term) => term.clone(),
        LicenceToken::Open => {
            let inner = list(tokens, depth)?;
            let (LicenceToken::Close, rest) = tokens.split_first()? else { return None };
            *tokens = rest;
            format!("({inner})")
        }
        _ => return None,
    };
    let is_licence = matches!(first, LicenceToken::Term(term) if !super::is_unknown(term));
    while let Some((LicenceToken::With(addition), rest)) = tokens.split_first() {
        *tokens = rest;
        match exception(addition, &text).filter(|_| is_licence && !text.contains(' ')) {
            Some(exception) => text = format!("{text} WITH {exception}"),
            // The addition is not a known exception, and may be a restriction.
            None => text = format!("{text} AND {}", unknown(&format!("with {addition}"))),
        }
    }
    Some(text)
}
