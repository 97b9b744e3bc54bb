//! Fields whose text is one of a few words. A comparison with any other word is a mistake: `severity == "hihg"` is
//! never true, so the condition would deny nothing.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::ValueType;
use super::matching::CompiledPattern;

/// The words of which a text is one, or those among other texts that matter.
#[derive(Debug, Eq, PartialEq)]
pub struct WordSet {
    /// What a word is, for messages: `severity`.
    pub name: &'static str,
    /// All words, or those of an open set that matter.
    pub words: &'static [&'static str],
    /// Whether there are other words. Then no comparison is a mistake.
    pub is_open: bool,
    /// The field with the rank of the word as a number, if there is one.
    pub rank: Option<&'static str>,
}

impl WordSet {
    /// Why no word of the set passes a test with this text, if none does.
    fn without(&self, text: &str, relation: &str, test: impl Fn(&str) -> bool) -> Option<String> {
        let Self { name, words, is_open, .. } = self;
        let is_wrong = !is_open && !words.iter().any(|word| test(word));
        is_wrong.then(|| format!("no {name} {relation} {text:?}; known: {}", words.join(", ")))
    }

    /// Why the words are not compared with `<`.
    fn unordered(&self) -> String {
        let hint = self.rank.map(|rank| format!("; compare {rank}")).unwrap_or_default();
        format!("a {} is a word, and words are compared alphabetically{hint}", self.name)
    }
}

/// The problem with the words in a call, and its position. `target` and `arguments` are the types of its operands.
pub(super) fn mistakes<'a>(
    call: &'a CallExpr,
    target: Option<&ValueType>,
    arguments: &[ValueType],
    patterns: &HashMap<String, CompiledPattern>,
) -> Vec<(&'a IdedExpr, String)> {
    match (&*call.func_name, &*call.args, arguments) {
        (operators::EQUALS | operators::NOT_EQUALS, [one, other], [of_one, of_other]) => {
            let pairs = [(of_one, other), (of_other, one)];
            pairs.into_iter().filter_map(|(word, text)| unequal(words(word)?, text)).collect()
        }
        (
            operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
            operands,
            types,
        ) => {
            let wrong = |of: &ValueType| words(of).filter(|set| !set.is_open).map(WordSet::unordered);
            let first = operands.iter().zip(types).find_map(|(operand, of)| Some((operand, wrong(of)?)));
            first.into_iter().collect()
        }
        ("matches", [_, pattern], [word, _]) => part("matches", word, pattern, patterns).into_iter().collect(),
        (method, [argument], _) => {
            target.and_then(|target| part(method, target, argument, patterns)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What is wrong with the text that a method looks for in a word.
fn part<'a>(
    method: &str,
    word: &ValueType,
    argument: &'a IdedExpr,
    patterns: &HashMap<String, CompiledPattern>,
) -> Option<(&'a IdedExpr, String)> {
    let (set, text) = (words(word)?, literal(argument)?);
    let wrong = match method {
        "contains" => set.without(text, "contains", |word| word.contains(text)),
        "endsWith" => set.without(text, "ends with", |word| word.ends_with(text)),
        "matches" => {
            set.without(text, "matches", |word| patterns.get(text).is_none_or(|pattern| pattern.is_match(word)))
        }
        "startsWith" => set.without(text, "starts with", |word| word.starts_with(text)),
        _ => None,
    };
    Some((argument, wrong?))
}

fn words(of: &ValueType) -> Option<&'static WordSet> {
    match of {
        ValueType::Word(set) => Some(set),
        _ => None,
    }
}

/// Why a text that is written out is none of the words, if it is none.
pub(super) fn unequal<'a>(set: &WordSet, text: &'a IdedExpr) -> Option<(&'a IdedExpr, String)> {
    let written = literal(text)?;
    Some((text, set.without(written, "is", |word| word == written)?))
}

/// Why none of these texts is one of the words, if none is.
pub(super) fn none_equal(set: &WordSet, texts: &[String]) -> Option<String> {
    let wrong: Vec<String> =
        texts.iter().filter_map(|text| set.without(text, "is", |word| word == text.as_str())).collect();
    if wrong.len() == texts.len() { wrong.into_iter().next() } else { None }
}

/// A text that is written out.
pub(super) fn literal(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}
