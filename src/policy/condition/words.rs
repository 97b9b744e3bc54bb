//! Fields whose text is one of a few words. A comparison with any other word is a mistake: `severity == "hihg"` is never
//! true, so the condition would deny nothing.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::ValueType;

/// The words of which a text is one.
#[derive(Debug, Eq, PartialEq)]
pub struct WordSet {
    /// What a word is, for messages: `severity`.
    pub name: &'static str,
    /// All words.
    pub words: &'static [&'static str],
    /// The field with the rank of the word as a number, if there is one.
    pub rank: Option<&'static str>,
}

impl WordSet {
    /// Why no word of the set passes a test with this text, if none does.
    fn without(&self, text: &str, relation: &str, test: impl Fn(&str) -> bool) -> Option<String> {
        let Self { name, words, .. } = self;
        let is_wrong = !words.iter().any(|word| test(word));
        is_wrong.then(|| format!("no {name} {relation} {text:?}; known: {}", words.join(", ")))
    }

    /// Why the words are not compared with `<`.
    fn unordered(&self) -> String {
        let hint = self.rank.map(|rank| format!("; compare {rank}")).unwrap_or_default();
        format!("a {} is a word, and words are compared by their letters{hint}", self.name)
    }
}

/// What is wrong with the words in a call, and where. `target` and `arguments` are the types of its operands.
pub(super) fn mistakes<'a>(
    call: &'a CallExpr,
    target: Option<ValueType>,
    arguments: &[ValueType],
) -> Vec<(&'a IdedExpr, String)> {
    match (&*call.func_name, &*call.args, arguments) {
        (operators::EQUALS | operators::NOT_EQUALS, [one, other], [of_one, of_other]) => {
            let pairs = [(of_one, other), (of_other, one)];
            pairs.into_iter().filter_map(|(word, text)| unequal(words(*word)?, text)).collect()
        }
        (operators::IN, [word, _], [_, ValueType::Words(set)]) => unequal(set, word).into_iter().collect(),
        (operators::IN, [_, list], [word, _]) => match (words(*word), &list.expr) {
            (Some(set), Expr::List(list)) => list.elements.iter().filter_map(|text| unequal(set, text)).collect(),
            _ => Vec::new(),
        },
        (
            operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
            operands,
            types,
        ) => {
            let first = operands.iter().zip(types).find_map(|(operand, of)| Some((operand, words(*of)?.unordered())));
            first.into_iter().collect()
        }
        (method, [argument], _) => {
            let part = || {
                let (set, text) = (words(target?)?, literal(argument)?);
                let wrong = match method {
                    "contains" => set.without(text, "contains", |word| word.contains(text)),
                    "endsWith" => set.without(text, "ends with", |word| word.ends_with(text)),
                    "startsWith" => set.without(text, "starts with", |word| word.starts_with(text)),
                    _ => None,
                };
                Some((argument, wrong?))
            };
            part().into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn words(of: ValueType) -> Option<&'static WordSet> {
    match of {
        ValueType::Word(set) => Some(set),
        _ => None,
    }
}

fn unequal<'a>(set: &WordSet, text: &'a IdedExpr) -> Option<(&'a IdedExpr, String)> {
    let written = literal(text)?;
    Some((text, set.without(written, "is", |word| word == written)?))
}

fn literal(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}
