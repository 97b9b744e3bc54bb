//! Which words of a field a condition asks for. `issues.exists(i, i.kind != "vulnerability")` asks for the kind
//! `configuration`, although it does not contain the word, and `i.kind == "vulnerability"` does not: the condition is
//! not true because of any other issue. A use that is not understood asks for every word of a set, unless the set is
//! open: of an open set, only tests ask for words.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::ValueType;
use super::matching::CompiledPattern;
use super::words::literal;

/// A word of a set, by the name of the set.
pub(super) type AskedWord = (&'static str, &'static str);

/// The words that a checked expression asks for. `types` are those of its parts.
pub(super) fn asked(
    expression: &IdedExpr,
    types: &HashMap<u64, ValueType>,
    patterns: &HashMap<String, CompiledPattern>,
) -> Vec<AskedWord> {
    let mut search = WordSearch { types, patterns, senses: vec![("", Sense::Met)], found: Vec::new() };
    search.visit(expression);
    search.found.sort_unstable();
    search.found.dedup();
    search.found
}

/// Whether a test of a value that passes can make the condition around it true.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sense {
    /// A value that passes can.
    Met,
    /// A value that fails can: below `!`, and in `all`.
    Unmet,
    /// Not known.
    Either,
}

impl Sense {
    fn flipped(self) -> Self {
        match self {
            Self::Met => Self::Unmet,
            Self::Unmet => Self::Met,
            Self::Either => Self::Either,
        }
    }
}

struct WordSearch<'a> {
    types: &'a HashMap<u64, ValueType>,
    patterns: &'a HashMap<String, CompiledPattern>,
    /// The senses of the variables of macros, the innermost last. The first one is that of everything else.
    senses: Vec<(&'a str, Sense)>,
    found: Vec<AskedWord>,
}

impl<'a> WordSearch<'a> {
    fn visit(&mut self, expression: &'a IdedExpr) {
        match &expression.expr {
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Ident(_) => self.value(expression),
            Expr::Select(select) => {
                if !select.test {
                    self.value(expression);
                }
                self.visit(&select.operand);
            }
            Expr::List(list) => self.in_sense(|_| Sense::Either, &list.elements),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.in_sense(|_| Sense::Either, [&entry.key, &entry.value]);
                    }
                }
            }
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
        }
    }

    /// Visits parts of an expression in which the senses are others.
    fn in_sense(&mut self, change: fn(Sense) -> Sense, parts: impl IntoIterator<Item = &'a IdedExpr>) {
        let before = self.senses.clone();
        self.senses.iter_mut().for_each(|(_, sense)| *sense = change(*sense));
        parts.into_iter().for_each(|part| self.visit(part));
        self.senses = before;
    }

    /// A word that is used otherwise than in a test.
    fn value(&mut self, expression: &IdedExpr) {
        if let Some(ValueType::Word(set)) = self.types.get(&expression.id)
            && !set.is_open
        {
            self.found.extend(set.words.iter().map(|word| (set.name, *word)));
        }
    }

    fn call(&mut self, call: &'a CallExpr) {
        match (&*call.func_name, &*call.args) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, sides) => sides.iter().for_each(|side| self.visit(side)),
            (operators::LOGICAL_NOT, operands) => self.in_sense(Sense::flipped, operands),
            // This means `condition && one`.
            (operators::CONDITIONAL, [condition, one, other]) if is_false(other) => {
                self.visit(condition);
                self.visit(one);
            }
            (operators::CONDITIONAL, [condition, one, other]) => {
                self.in_sense(|_| Sense::Either, [condition]);
                self.visit(one);
                self.visit(other);
            }
            _ if self.test(call) => {}
            _ => self.in_sense(|_| Sense::Either, call.target.as_deref().into_iter().chain(&call.args)),
        }
    }

    /// Whether a call is a test of a word with texts that are written out.
    fn test(&mut self, call: &'a CallExpr) -> bool {
        let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let [one, other] = operands[..] else { return false };
        let name = &*call.func_name;
        match (name, literal(one), literal(other)) {
            (operators::EQUALS | operators::NOT_EQUALS, None, Some(text))
            | (operators::EQUALS | operators::NOT_EQUALS, Some(text), None) => {
                let word = if literal(one).is_some() { other } else { one };
                self.record(word, name == operators::NOT_EQUALS, |word| word == text)
            }
            (operators::IN, Some(text), None) => self.record(other, false, |word| word == text),
            (operators::IN, None, None) => match &other.expr {
                Expr::List(list) => {
                    let texts: Option<Vec<&str>> = list.elements.iter().map(literal).collect();
                    texts.is_some_and(|texts| self.record(one, false, |word| texts.contains(&word)))
                }
                _ => false,
            },
            ("contains", None, Some(text)) => self.record(one, false, |word| word.contains(text)),
            ("endsWith", None, Some(text)) => self.record(one, false, |word| word.ends_with(text)),
            ("startsWith", None, Some(text)) => self.record(one, false, |word| word.starts_with(text)),
            ("matches", None, Some(text)) => match self.patterns.get(text) {
                Some(pattern) => self.record(one, false, |word| pattern.is_match(word)),
                None => false,
            },
            _ => false,
        }
    }

    /// Notes the words that a test of this value asks for. Returns whether the value is a word.
    fn record(&mut self, value: &'a IdedExpr, is_negated: bool, passes: impl Fn(&str) -> bool) -> bool {
        let Some(set) = self.types.get(&value.id).and_then(ValueType::words) else { return false };
        let Some(variable) = root(value) else { return false };
        let known = self.senses.iter().rev().find(|(name, _)| *name == variable);
        let sense = known.or(self.senses.first()).map_or(Sense::Either, |(_, sense)| *sense);
        let sense = if is_negated { sense.flipped() } else { sense };
        let is_asked = |word: &str| match sense {
            Sense::Met => passes(word),
            // Of an open set, a condition asks only for the words that it names, and not for those that it leaves out.
            Sense::Unmet => !set.is_open && !passes(word),
            Sense::Either => !set.is_open || passes(word),
        };
        self.found.extend(set.words.iter().filter(|word| is_asked(word)).map(|word| (set.name, *word)));
        true
    }

    /// The macros `all`, `exists`, `exists_one`, `map` and `filter`, as the parser expands them.
    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr) {
        self.in_sense(|_| Sense::Either, [&comprehension.iter_range]);
        let before = self.senses.clone();
        let variable = &*comprehension.iter_var;
        match &comprehension.loop_step.expr {
            Expr::Call(step) if step.func_name == operators::LOGICAL_AND => {
                self.senses.push((variable, Sense::Unmet));
                step.args.iter().for_each(|part| self.visit(part));
            }
            Expr::Call(step) if step.func_name == operators::LOGICAL_OR => {
                self.senses.push((variable, Sense::Met));
                step.args.iter().for_each(|part| self.visit(part));
            }
            Expr::Call(step) if step.func_name == operators::CONDITIONAL => {
                self.senses.iter_mut().for_each(|(_, sense)| *sense = Sense::Either);
                self.senses.push((variable, Sense::Met));
                step.args.iter().take(1).for_each(|condition| self.visit(condition));
                self.in_sense(|_| Sense::Either, step.args.iter().skip(1));
            }
            _ => self.in_sense(|_| Sense::Either, [&comprehension.loop_step]),
        }
        self.senses = before;
    }
}

fn is_false(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Literal(LiteralValue::Boolean(value)) if !*value.inner())
}

/// The variable to which a value belongs, if it is a variable or a part of one.
fn root(value: &IdedExpr) -> Option<&str> {
    match &value.expr {
        Expr::Ident(name) => Some(name),
        Expr::Select(select) => root(&select.operand),
        Expr::Call(call) if call.func_name == operators::INDEX => root(call.args.first()?),
        _ => None,
    }
}
