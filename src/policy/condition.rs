//! Conditions in policies, written in CEL (Common Expression Language, cel.dev), over values that are known only when
//! an image is judged: `predicate.buildType == "x" && predicate.materials.all(m, m.uri.startsWith("git+https://"))`.
//!
//! The crate `cel` parses and evaluates. This module adds what it lacks:
//! - Types are checked when a condition is read (`check.rs`), so a misspelt variable is an error in the policy, and not
//!   a denial of every image.
//! - The work and the memory of an evaluation are limited (`cost.rs`), and regular expressions are compiled once
//!   (`matching.rs`).
//! - Times need no calendar library: they are milliseconds since 1970, and `timestamp` and `duration` return such
//!   numbers. They can be compared, added and subtracted as in CEL, and have its methods, such as `getFullYear`, in UTC
//!   (`times.rs`).
//!
//! A condition is met, not met, or cannot be evaluated. The latter never counts as met.

mod asked;
mod check;
mod cost;
mod elements;
mod matching;
mod times;
mod types;
mod value;
mod words;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::{Context, Env, ExecutionError};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use asked::AskedWord;
use check::CheckedCondition;
use cost::WorkBudget;
use matching::LiteralPatterns;
pub use types::{RecordType, ValueType};
pub use words::WordSet;

/// The longest condition, in bytes.
const MAX_TEXT: usize = 8 * 1024;
/// The deepest nesting of brackets and macros in a condition. Parsing is recursive.
const MAX_DEPTH: u16 = 32;
/// The deepest nesting of a condition once it is parsed: `a + b + c` is nested too. Evaluation is recursive.
const MAX_PARSED_DEPTH: usize = 200;
/// The longest message about a failed evaluation, in bytes: it may quote values.
const MAX_MESSAGE: usize = 200;

/// The standard functions and macros of CEL, without optional values.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// A condition whose types were checked.
#[derive(Clone)]
pub struct Condition {
    text: Arc<str>,
    expression: Arc<IdedExpr>,
    /// The variables that it mentions.
    mentioned: Arc<[String]>,
    /// The words of fields that it asks for.
    asked: Arc<[AskedWord]>,
    /// The texts that are written out in it.
    texts: Arc<[String]>,
    /// The fields that it takes from values of unknown type; `None` is any field.
    untyped: Arc<[Option<String>]>,
    patterns: LiteralPatterns,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

/// Equal texts mean the same, because the variables of a condition depend only on where it is used.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// An error in a condition, and its position in the text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct InvalidCondition {
    /// The line within the condition, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// The value of a variable.
#[derive(Clone, Copy, Debug)]
pub enum Variable<'a> {
    /// JSON of unknown structure.
    Json(&'a Value),
    /// Text.
    Text(&'a str),
    /// A time.
    Time(Timestamp),
}

impl Condition {
    /// Parses a condition and checks its types. `variables` are the names that it may use.
    ///
    /// # Errors
    /// Everything that is wrong with it: a syntax error, an unknown variable or function, operands that do not fit, or
    /// a result that is not true or false.
    pub fn compile(text: &str, variables: &[(&str, ValueType)]) -> Result<Self, Vec<InvalidCondition>> {
        if text.len() > MAX_TEXT {
            let message = format!("is longer than {MAX_TEXT} bytes");
            return Err(vec![InvalidCondition { line: 1, column: 1, message }]);
        }
        let parser = STANDARD.parser().max_recursion_depth(MAX_DEPTH);
        let (mut expression, source) = parser.parse_with_source_info(text).map_err(|invalid| {
            let error = |error: cel::ParseError| check::syntax(text, &error);
            invalid.errors.into_iter().map(error).collect::<Vec<_>>()
        })?;
        if !cost::is_flat(&expression, MAX_PARSED_DEPTH) {
            let message = format!("is nested more than {MAX_PARSED_DEPTH} deep");
            return Err(vec![InvalidCondition { line: 1, column: 1, message }]);
        }
        let CheckedCondition { patterns, asked, texts, untyped } = check::check(&expression, &source, variables)?;
        let mentioned = expression.references().variables().into_iter().map(str::to_owned).collect();
        cost::meter(&mut expression);
        Ok(Self {
            text: text.into(),
            expression: Arc::new(expression),
            mentioned,
            asked: asked.into(),
            texts: texts.into(),
            untyped: untyped.into(),
            patterns: LiteralPatterns::new(patterns),
        })
    }

    /// Whether the condition asks for one of the words of a set that this accepts.
    pub fn asks_for(&self, set: &WordSet, is_meant: impl Fn(&str) -> bool) -> bool {
        self.asked.iter().any(|(name, word)| *name == set.name && is_meant(word))
    }

    /// The texts that are written out in the condition.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }

    /// Whether the condition may take the field of this name from a value of unknown type.
    pub fn takes_untyped(&self, field: &str) -> bool {
        self.untyped.iter().any(|taken| taken.as_deref().is_none_or(|name| name == field))
    }

    /// Whether the condition depends on this variable.
    pub fn mentions(&self, variable: &str) -> bool {
        self.mentioned.iter().any(|name| name == variable)
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Evaluates the condition. Every variable that it was compiled with must have a value.
    ///
    /// # Errors
    /// Why it cannot be evaluated: a field is missing, a value has another type than the condition expects, or
    /// the evaluation exceeds its budget.
    pub fn is_met(&self, variables: &[(&str, Variable<'_>)]) -> Result<bool, String> {
        let budget = WorkBudget::default();
        let mut context = context(&budget, &self.patterns);
        for (name, variable) in variables {
            context.add_variable_from_value(*name, value::of(*variable)?);
        }
        let result = cel::Value::resolve(&self.expression, &context);
        // `||` ignores the error of one operand if the other is true.
        if budget.is_exhausted() {
            return Err("takes too many steps".into());
        }
        match result {
            Ok(cel::Value::Bool(met)) => Ok(met),
            Ok(other) => Err(format!("is neither true nor false, but a {}", other.type_of())),
            Err(error) => Err(describe(&error)),
        }
    }
}

/// The functions that conditions can call.
fn context<'v>(budget: &WorkBudget, patterns: &LiteralPatterns) -> Context<'static, 'v> {
    let mut context = Context::with_env(STANDARD.clone());
    let failed = |function: &'static str| move |why: String| ExecutionError::function_error(function, why);
    let timestamp = move |text: Arc<String>| milliseconds_of(&text).map_err(failed("timestamp"));
    let duration = move |text: Arc<String>| length_of(&text).map_err(failed("duration"));
    let added = [
        context.add_function("timestamp", timestamp),
        context.add_function("duration", duration),
        context.add_function(cost::STEP, budget.step_function()),
        context.add_function(cost::CHARGE, budget.charge_function()),
        context.add_function(cost::MATCHES, patterns.function(budget)),
    ];
    let are_added = added.iter().all(Result::is_ok) && times::add(&mut context);
    debug_assert!(are_added, "the standard library does not have these functions");
    context
}

/// A time in RFC 3339, in milliseconds since 1970.
fn milliseconds_of(text: &str) -> Result<i64, String> {
    text.parse::<Timestamp>().map(Timestamp::as_millisecond).map_err(|error| error.to_string())
}

/// A duration such as `36h` or `1h30m`, in milliseconds.
fn length_of(text: &str) -> Result<i64, String> {
    let duration: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    i64::try_from(duration.as_millis()).map_err(|_| "is too long".into())
}

/// Why a function can never take this text, if it cannot.
fn wrong_literal(function: &str, text: &str) -> Option<String> {
    match function {
        "duration" if length_of(text).is_err() => {
            Some(format!("{text:?} is not a duration such as \"36h\" or \"1h30m\"; a day is \"24h\""))
        }
        "timestamp" if milliseconds_of(text).is_err() => {
            Some(format!("{text:?} is not a time such as \"2026-01-01T00:00:00Z\""))
        }
        _ => None,
    }
}

/// An error without the values that it quotes, which may be as large as the predicate.
fn describe(error: &ExecutionError) -> String {
    let text = match error {
        ExecutionError::NoSuchKey(key) => format!("there is no {key:?}; test for it with has(….{key}) first"),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::FunctionError { function, message } => format!("{function}: {message}"),
        ExecutionError::UnexpectedType { got, want } => format!("{got} where {want} is expected"),
        ExecutionError::ValuesNotComparable(..) => "values of different types are compared".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        ExecutionError::UnsupportedIndex(..) => "a value that is neither a list nor a map is indexed".to_owned(),
        _ => "a value has an unexpected type".to_owned(),
    };
    text.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests;
