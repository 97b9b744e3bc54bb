//! The types of a condition, checked before it is used. JSON has the type `any`: what it contains is known only when an
//! image is judged.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};

use super::asked::{AskedWord, asked};
use super::elements::TextRange;
use super::matching::CompiledPattern;
use super::{InvalidCondition, ValueType, elements, times, words, wrong_literal};
use ValueType::{
    Any, Bool, Bytes, Double, Duration, Int, List, ListOf, Map, Null, Record, Text, Time, Type, Uint, Word,
};

/// The global functions: name, the types of the only argument, and the type of the result.
const FUNCTIONS: &[(&str, &[ValueType], ValueType)] = &[
    ("bool", &[Bool, Text], Bool),
    ("bytes", &[Bytes, Text], Bytes),
    ("double", &[Double, Int, Text, Uint], Double),
    ("duration", &[Text], Duration),
    ("dyn", &[Bool, Bytes, Double, Duration, Int, List, Map, Null, Text, Time, Type, Uint], Any),
    ("int", &[Double, Int, Text, Uint], Int),
    ("size", &[Bytes, List, Map, Text], Int),
    ("string", &[Bool, Bytes, Double, Int, Text, Uint], Text),
    ("timestamp", &[Text], Time),
    ("type", &[Bool, Bytes, Double, Int, List, Map, Null, Text, Type, Uint], Type),
    ("uint", &[Double, Int, Text, Uint], Uint),
];

/// The methods of text: each takes one text, and its result is true or false.
const TEXT_METHODS: [&str; 4] = ["contains", "endsWith", "matches", "startsWith"];

/// What is known about an expression once it is checked.
pub(super) struct CheckedCondition {
    /// The regular expressions that are written out in it.
    pub(super) patterns: HashMap<String, CompiledPattern>,
    /// The words that it asks for.
    pub(super) asked: Vec<AskedWord>,
    /// The texts that are written out in it.
    pub(super) texts: Vec<String>,
    /// The fields that it takes from values of unknown type; `None` is a field whose name is not written out.
    pub(super) untyped: Vec<Option<String>>,
}

/// Checks an expression and that its result can be true or false.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn check(
    expression: &IdedExpr,
    source: &SourceInfo,
    variables: &[(&str, ValueType)],
) -> Result<CheckedCondition, Vec<InvalidCondition>> {
    let scope = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let (found, texts, untyped, ranges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (types, patterns) = (HashMap::new(), HashMap::new());
    let mut checker = Checker { source, scope, ranges, found, texts, untyped, types, patterns };
    let result = checker.type_of(expression);
    if !matches!(result, Bool | Any) {
        checker.report(expression, format!("the result is a {result}, but a condition is true or false"));
    }
    let Checker { found, texts, untyped, types, patterns, .. } = checker;
    match found.is_empty() {
        true => Ok(CheckedCondition { asked: asked(expression, &types, &patterns), patterns, texts, untyped }),
        false => Err(found),
    }
}

/// A syntax error.
pub(super) fn syntax(text: &str, error: &cel::ParseError) -> InvalidCondition {
    let number = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let (line, column) = (number(error.pos.0), number(error.pos.1));
    let message = error.msg.lines().next().unwrap_or_default();
    let message = if message.is_empty() || message == "UNKNOWN" { "cannot be parsed" } else { message };
    InvalidCondition { line: line.min(text.lines().count().max(1)), column, message: message.to_owned() }
}

struct Checker<'a> {
    source: &'a SourceInfo,
    /// Variables in scope; later ones hide earlier ones.
    scope: Vec<(String, ValueType)>,
    /// The variables of macros in scope.
    ranges: Vec<TextRange>,
    found: Vec<InvalidCondition>,
    /// The types of the expressions that were checked, by their identifiers.
    types: HashMap<u64, ValueType>,
    /// The regular expressions that are written out.
    patterns: HashMap<String, CompiledPattern>,
    /// All texts that are written out.
    texts: Vec<String>,
    untyped: Vec<Option<String>>,
}

impl Checker<'_> {
    /// Reports a mistake at an expression. The type of what contains it is unknown, so that one mistake is reported
    /// once.
    fn report(&mut self, at: &IdedExpr, message: String) -> ValueType {
        let start = self.source.offset_for(at.id).map_or(0, |(start, _)| start as usize);
        let before = self.source.source.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.found.push(InvalidCondition { line, column, message });
        Any
    }

    fn type_of(&mut self, expression: &IdedExpr) -> ValueType {
        let found = match &expression.expr {
            Expr::Literal(literal) => {
                if let LiteralValue::String(text) = literal {
                    self.texts.push(text.inner().to_owned());
                }
                type_of_literal(literal)
            }
            Expr::Ident(name) => self.variable(expression, name),
            Expr::Select(select) => {
                let operand = self.type_of(&select.operand);
                let field = self.field(expression, &operand, &select.field);
                if select.test { Bool } else { field }
            }
            Expr::List(list) => {
                let elements: Vec<ValueType> = list.elements.iter().map(|element| self.type_of(element)).collect();
                match elements.into_iter().reduce(|one, other| one.or(&other)) {
                    // A whole number may be meant as a time, or as the time between two: in milliseconds.
                    None | Some(Int | Uint) => List,
                    Some(element) => element.listed(),
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.type_of(&entry.key);
                        self.type_of(&entry.value);
                    }
                }
                Map
            }
            Expr::Call(call) => self.call(expression, call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(message) => self.report(expression, format!("there is no type {:?}", message.type_name)),
            Expr::Unspecified => self.report(expression, "cannot be parsed".into()),
        };
        self.types.insert(expression.id, found.clone());
        found
    }

    fn field(&mut self, at: &IdedExpr, operand: &ValueType, name: &str) -> ValueType {
        match operand {
            Map | Any => {
                self.untyped.push(Some(name.to_owned()));
                Any
            }
            Record(record) => match record.fields.iter().find(|(known, _)| *known == name) {
                Some((_, field)) => field.clone(),
                None => {
                    let known: Vec<&str> = record.fields.iter().map(|(known, _)| *known).collect();
                    self.report(at, format!("no {} has a field {name:?}; known: {}", record.name, known.join(", ")))
                }
            },
            operand => self.report(at, format!("a {operand} has no field {name:?}")),
        }
    }

    fn variable(&mut self, at: &IdedExpr, name: &str) -> ValueType {
        let found = self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, found)| found.clone());
        if let Some(found) = found {
            return found;
        }
        if ["bool", "bytes", "double", "int", "list", "map", "string", "type", "uint"].contains(&name) {
            return Type;
        }
        // The parser's own variables begin with @.
        let known = self.scope.iter().map(|(known, _)| &**known).filter(|known| !known.starts_with('@'));
        let known = known.collect::<Vec<_>>().join(", ");
        self.report(at, format!("there is no variable {name:?}; known here: {known}"))
    }

    /// The macros `all`, `exists`, `exists_one`, `map` and `filter`, as the parser expands them.
    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> ValueType {
        let range = self.type_of(&comprehension.iter_range);
        if !matches!(range.general(), List | Map | Any) {
            self.report(&comprehension.iter_range, format!("a {range} is neither a list nor a map"));
        }
        let accumulated = self.type_of(&comprehension.accu_init);
        let (outer, outer_ranges) = (self.scope.len(), self.ranges.len());
        self.scope.push((comprehension.accu_var.clone(), accumulated));
        let element = range.element().filter(|_| comprehension.iter_var2.is_none()).cloned().unwrap_or(Any);
        self.scope.push((comprehension.iter_var.clone(), element));
        self.scope.extend(comprehension.iter_var2.iter().map(|name| (name.clone(), Any)));
        let texts = elements::written_texts(&comprehension.iter_range).filter(|_| comprehension.iter_var2.is_none());
        self.ranges.push((comprehension.iter_var.clone(), texts));
        self.ranges.extend(comprehension.iter_var2.iter().map(|name| (name.clone(), None)));
        self.type_of(&comprehension.loop_cond);
        self.type_of(&comprehension.loop_step);
        let appended = appended(comprehension).and_then(|element| self.types.get(&element.id)).cloned();
        self.scope.truncate(outer + 1);
        self.ranges.truncate(outer_ranges);
        let result = self.type_of(&comprehension.result);
        self.scope.truncate(outer);
        appended.filter(|_| result == List).map_or(result, ValueType::listed)
    }

    /// Reports an argument that is written out and would fail in every evaluation.
    fn literal(&mut self, call: &CallExpr) {
        let Some(argument) = call.args.last() else { return };
        let Expr::Literal(LiteralValue::String(text)) = &argument.expr else { return };
        let (text, function) = (text.inner(), &*call.func_name);
        let wrong = match function {
            "matches" => CompiledPattern::compile(text)
                .map(|compiled| drop(self.patterns.insert(text.to_owned(), compiled)))
                .err(),
            _ => wrong_literal(function, text),
        };
        if let Some(wrong) = wrong {
            self.report(argument, format!("{function}: {wrong}"));
        }
    }

    fn call(&mut self, at: &IdedExpr, call: &CallExpr) -> ValueType {
        self.literal(call);
        let target = call.target.as_ref().map(|target| self.type_of(target));
        let arguments: Vec<_> = call.args.iter().map(|argument| self.type_of(argument)).collect();
        let mut mistakes = words::mistakes(call, target.as_ref(), &arguments, &self.patterns);
        mistakes.extend(elements::mistakes(call, &arguments, &self.types));
        mistakes.extend(elements::never_a_word(call, &arguments, &self.ranges));
        if !mistakes.is_empty() {
            mistakes.into_iter().for_each(|(at, wrong)| _ = self.report(at, wrong));
            return Any;
        }
        // `i["kind"]` is `i.kind`, and `"kind" in i` is `has(i.kind)`.
        let named = match (&*call.func_name, &*call.args, &*arguments) {
            (operators::INDEX, [_, name], [record @ Record(_), _])
            | (operators::IN, [name, _], [_, record @ Record(_)]) => words::literal(name).map(|name| (record, name)),
            _ => None,
        };
        if let Some((record, name)) = named {
            let field = self.field(at, record, name);
            return if call.func_name == operators::INDEX { field } else { Bool };
        }
        if let (operators::INDEX, [map, name], [Map | Record(_) | Any, Text | Word(_) | Any]) =
            (&*call.func_name, &*call.args, &*arguments)
            && !elements::is_table(map, &self.types)
        {
            self.untyped.push(words::literal(name).map(str::to_owned));
        }
        let (target, arguments) = (target.map(ValueType::plain), arguments.into_iter().map(ValueType::plain));
        let (name, arguments) = (&*call.func_name, arguments.collect::<Vec<_>>());
        match (target, &*arguments) {
            (None, operands) if operator(name).is_some() => self.operator(at, name, operands),
            (None, [Any]) if function(name).is_some() => function(name).map_or(Any, |(_, result)| result),
            (None, [argument]) if function(name).is_some() => match function(name) {
                Some((accepted, result)) if accepted.contains(&argument.general()) => result,
                _ => self.report(at, format!("{name} does not take a {argument}")),
            },
            (Some(Text | Any), [Text | Any]) if TEXT_METHODS.contains(&name) => Bool,
            (None, [Text | Any, Text | Any]) if name == "matches" => Bool,
            (Some(Time), []) if times::is_method(name) => Int,
            (Some(Any | Bytes | List | ListOf(_) | Map | Record(_) | Text), []) if name == "size" => Int,
            _ => {
                let known = function(name).is_some() || TEXT_METHODS.contains(&name);
                let why = if known { "does not take these arguments" } else { "is not a function here" };
                self.report(at, format!("{name} {why}"))
            }
        }
    }

    fn operator(&mut self, at: &IdedExpr, name: &str, operands: &[ValueType]) -> ValueType {
        let Some(result) = operation(name, operands) else {
            let symbol = operator(name).unwrap_or(name);
            let types = operands.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            return self.report(at, format!("{symbol} cannot be applied to {types}"));
        };
        result
    }
}

fn type_of_literal(literal: &LiteralValue) -> ValueType {
    match literal {
        LiteralValue::Boolean(_) => Bool,
        LiteralValue::Bytes(_) => Bytes,
        LiteralValue::Double(_) => Double,
        LiteralValue::Int(_) => Int,
        LiteralValue::Null => Null,
        LiteralValue::String(_) => Text,
        LiteralValue::UInt(_) => Uint,
    }
}

fn function(name: &str) -> Option<(&'static [ValueType], ValueType)> {
    FUNCTIONS.iter().find(|(known, ..)| *known == name).map(|(_, accepted, result)| (*accepted, result.clone()))
}

/// The symbol of an operator, by its internal name.
fn operator(name: &str) -> Option<&'static str> {
    Some(match name {
        operators::CONDITIONAL => "? :",
        operators::LOGICAL_AND => "&&",
        operators::LOGICAL_OR => "||",
        operators::LOGICAL_NOT => "!",
        operators::SUBSTRACT | operators::NEGATE => "-",
        operators::ADD => "+",
        operators::MULTIPLY => "*",
        operators::DIVIDE => "/",
        operators::MODULO => "%",
        operators::EQUALS => "==",
        operators::NOT_EQUALS => "!=",
        operators::GREATER_EQUALS => ">=",
        operators::LESS_EQUALS => "<=",
        operators::GREATER => ">",
        operators::LESS => "<",
        operators::INDEX => "[ ]",
        operators::IN => "in",
        operators::NOT_STRICTLY_FALSE => "the loop of a macro",
        _ => return None,
    })
}

/// The type of an operation; `None` if the operands do not fit.
fn operation(name: &str, operands: &[ValueType]) -> Option<ValueType> {
    match (name, operands) {
        (operators::INDEX, [ListOf(element), Int | Uint | Any]) => return Some((**element).clone()),
        (operators::ADD, [one, other]) if one.is_list() && other.is_list() => return Some(one.or(other)),
        (operators::CONDITIONAL, [Bool | Any, one, other]) => {
            let are_alike = one == other || one.is_list() && other.is_list();
            return Some(if are_alike { one.or(other) } else { Any });
        }
        _ => {}
    }
    let operands: Vec<ValueType> = operands.iter().map(ValueType::general).collect();
    match (name, &*operands) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR, [Bool | Any, Bool | Any]) => Some(Bool),
        (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [Bool | Any]) => Some(Bool),
        (operators::NEGATE, [value @ (Int | Double | Any)]) => Some(value.clone()),
        (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => elements::may_equal(one, other).then_some(Bool),
        (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [one, other]) => {
            let is_ordered = |value: &ValueType| matches!(value, Bool | Bytes | Duration | Text | Time);
            let same = one == other && is_ordered(one) || one.is_number() && other.is_number();
            let any = *one == Any && is_ordered(other) || *other == Any && is_ordered(one);
            (same || any).then_some(Bool)
        }
        (operators::IN, [_, List | Map | Any]) => Some(Bool),
        (operators::INDEX, [List, Int | Uint | Any] | [Map | Any, _]) => Some(Any),
        (operators::ADD, [one, other]) => sum(one, other),
        (operators::SUBSTRACT, [Time, Time]) => Some(Duration),
        (operators::SUBSTRACT, [Time, Duration]) => Some(Time),
        (operators::SUBSTRACT, [Duration, Duration]) => Some(Duration),
        (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [one, other])
            if one.is_number() && other.is_number() =>
        {
            Some(if one == other { one.clone() } else { Any })
        }
        _ => None,
    }
}

/// The list element that the macros `map` and `filter` append, always or under a condition.
fn appended(comprehension: &ComprehensionExpr) -> Option<&IdedExpr> {
    let step = &comprehension.loop_step.expr;
    let added = match arguments(step, operators::CONDITIONAL) {
        Some([_, added, _]) => &added.expr,
        _ => step,
    };
    match arguments(added, operators::ADD) {
        Some([_, IdedExpr { expr: Expr::List(list), .. }]) => match &*list.elements {
            [only] => Some(only),
            _ => None,
        },
        _ => None,
    }
}

/// The arguments of a call of this function.
fn arguments<'a>(expression: &'a Expr, name: &str) -> Option<&'a [IdedExpr]> {
    match expression {
        Expr::Call(call) if call.func_name == name => Some(&call.args),
        _ => None,
    }
}

fn sum(one: &ValueType, other: &ValueType) -> Option<ValueType> {
    match (one, other) {
        (Time, Duration) | (Duration, Time) => Some(Time),
        (Any, Any) => Some(Any),
        (Any, other) | (other, Any) if matches!(other, Bytes | Double | Int | List | Text | Uint) => {
            Some(other.clone())
        }
        (one, other) if one == other && matches!(one, Bytes | Double | Duration | Int | Text | Uint) => {
            Some(one.clone())
        }
        _ => None,
    }
}
