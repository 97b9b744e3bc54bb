//! Regular expressions of conditions, each compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cel::ExecutionError;
use cel::common::types::{CelBool, CelString};
use cel::common::value::CowVal;
use regex::{Regex, RegexBuilder};

use super::cost::{CountedFunction, WorkBudget, text_parts};

/// The sizes of compiled expressions, in bytes, and how many parts of work each character of a text then counts.
/// Matching takes linear time in the length of the text, and in the worst case in the size of the expression.
const SIZES: [(usize, u64); 4] = [(8 << 10, 0), (32 << 10, 1), (128 << 10, 4), (512 << 10, 16)];
/// Counts the compilation of an expression that is known only during an evaluation.
const COMPILATION: u64 = 20_000;
/// The longest such expression, in bytes.
const MAX_PATTERN: usize = 1024;

/// A compiled regular expression, and what a character of a text counts.
#[derive(Clone)]
pub(super) struct CompiledPattern {
    regex: Regex,
    weight: u64,
}

impl CompiledPattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It is malformed or too large.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        for (size, weight) in SIZES {
            match RegexBuilder::new(text).size_limit(size).dfa_size_limit(size * 4).build() {
                Ok(regex) => return Ok(Self { regex, weight }),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(error) => {
                    let error = error.to_string();
                    let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    return Err(format!("{text:?} is not a regular expression: {why}"));
                }
            }
        }
        Err(format!("{text:?} is too large a regular expression"))
    }

    /// Whether it matches a part of a text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// The expressions that are written out in a condition.
#[derive(Clone, Default)]
pub(super) struct LiteralPatterns(Arc<HashMap<String, CompiledPattern>>);

impl LiteralPatterns {
    /// Keeps those that the check of the condition has compiled.
    pub(super) fn new(compiled: HashMap<String, CompiledPattern>) -> Self {
        Self(Arc::new(compiled))
    }

    /// The function [`super::cost::MATCHES`].
    pub(super) fn function(&self, budget: &WorkBudget) -> CountedFunction {
        let (literals, budget, others) = (self.0.clone(), budget.clone(), Mutex::new(HashMap::new()));
        Box::new(move |call| {
            let error = |why: String| ExecutionError::function_error("matches", why);
            let [text, pattern] = &call.args[..] else { return Err(error("takes two texts".into())) };
            let texts = text.downcast_ref::<CelString<'_>>().zip(pattern.downcast_ref::<CelString<'_>>());
            let Some((text, pattern)) = texts else { return Err(error("takes two texts".into())) };
            let (text, pattern) = (text.inner(), pattern.inner());
            let is_match = |compiled: &CompiledPattern| {
                budget.charge(text_parts(text.len()) + compiled.weight * text.len() as u64)?;
                Ok(CowVal::owned(CelBool::from(compiled.is_match(text))))
            };
            if let Some(compiled) = literals.get(pattern) {
                return is_match(compiled);
            }
            let mut others = others.lock().unwrap_or_else(PoisonError::into_inner);
            if !others.contains_key(pattern) {
                budget.charge(COMPILATION)?;
                if pattern.len() > MAX_PATTERN {
                    return Err(error(format!("the regular expression is longer than {MAX_PATTERN} bytes")));
                }
                others.insert(pattern.to_owned(), CompiledPattern::compile(pattern).map_err(error)?);
            }
            others.get(pattern).map_or_else(|| Err(error("no expression".into())), is_match)
        })
    }
}
