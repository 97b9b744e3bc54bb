//! A limit on the work and the memory of an evaluation. The crate `cel` has none, so functions that count are added to
//! the expression when it is compiled, where evaluation repeats something or copies a value:
//!
//! - Every iteration of a macro calls [`STEP`], which counts the parts of the expression that are evaluated and of the
//!   element.
//! - What is compared, joined, put into a list or a map, or passed to a function goes through [`CHARGE`], which counts
//!   the parts of the value and the length of its texts.
//! - [`MATCHES`] replaces `matches`: a pattern is compiled once, and texts count by the size of the pattern.
//!
//! Everything else is limited by the length of the condition and the size of its variables.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelBytes, CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::{ExecutionError, FunctionContext};

use super::times;

/// The function that counts an iteration. Its name, like those of the other functions, cannot be written in CEL.
pub(super) const STEP: &str = "@step";
/// The function that counts the parts of a value, and returns it.
pub(super) const CHARGE: &str = "@charge";
/// The function that compares a text with a regular expression.
pub(super) const MATCHES: &str = "@matches";

/// The maximum number of iterations of all macros together.
const MAX_STEPS: u32 = 100_000;
/// The maximum work: parts of expressions that are evaluated and parts of values that are handled. A part takes about
/// 100 ns and, where it is kept, 100 bytes.
const MAX_WORK: u64 = 2_000_000;
/// How many bytes of text count as one part.
const TEXT_PART: usize = 16;

/// A function that can be added to an evaluation.
pub(super) type CountedFunction = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        ) -> Result<CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

/// The work and memory that one evaluation has used so far. Clones share it.
#[derive(Clone, Default)]
pub(super) struct WorkBudget(Arc<SpentWork>);

#[derive(Default)]
struct SpentWork {
    steps: AtomicU32,
    work: AtomicU64,
}

impl WorkBudget {
    /// Counts work.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(super) fn charge(&self, parts: u64) -> Result<(), ExecutionError> {
        let before = self.0.work.fetch_add(parts.min(MAX_WORK + 1), Ordering::Relaxed);
        if before.saturating_add(parts) > MAX_WORK { Err(exhausted()) } else { Ok(()) }
    }

    /// Whether the budget is exhausted.
    pub(super) fn is_exhausted(&self) -> bool {
        self.0.steps.load(Ordering::Relaxed) > MAX_STEPS || self.0.work.load(Ordering::Relaxed) > MAX_WORK
    }

    fn step(&self) -> Result<(), ExecutionError> {
        let before = self.0.steps.fetch_add(1, Ordering::Relaxed);
        if before < MAX_STEPS && !self.is_exhausted() { Ok(()) } else { Err(exhausted()) }
    }

    fn charge_value(&self, value: &dyn Val) -> Result<(), ExecutionError> {
        let mut left = MAX_WORK.saturating_sub(self.0.work.load(Ordering::Relaxed));
        let before = left;
        match measure(value, &mut left) {
            Some(()) => self.charge(before - left),
            None => self.charge(MAX_WORK + 1),
        }
    }

    /// The function [`STEP`]: true, or an error when the budget is exhausted. Its arguments are the number of parts of
    /// the expression, and the element if there is one.
    pub(super) fn step_function(&self) -> CountedFunction {
        let budget = self.clone();
        Box::new(move |call| {
            budget.step()?;
            let (parts, element) = call.args.split_first().ok_or_else(exhausted)?;
            let parts = parts.downcast_ref::<CelInt>().and_then(|parts| u64::try_from(*parts.inner()).ok());
            budget.charge(parts.unwrap_or(1).min(MAX_WORK))?;
            element.iter().try_for_each(|element| budget.charge_value(&**element))?;
            Ok(CowVal::owned(cel::common::types::CelBool::from(true)))
        })
    }

    /// The function [`CHARGE`].
    pub(super) fn charge_function(&self) -> CountedFunction {
        let budget = self.clone();
        Box::new(move |call| {
            let value = call.args.pop().ok_or_else(exhausted)?;
            budget.charge_value(&*value)?;
            Ok(value)
        })
    }
}

fn exhausted() -> ExecutionError {
    ExecutionError::function_error(STEP, "too many steps")
}

/// How many parts a text of this length is.
pub(super) fn text_parts(length: usize) -> u64 {
    (length / TEXT_PART) as u64 + 1
}

/// Subtracts the parts of a value. `None` if the budget does not suffice; the rest is not examined.
fn measure(value: &dyn Val, left: &mut u64) -> Option<()> {
    let key = |key: &CelMapKey<'_>| match key {
        CelMapKey::String(text) => text_parts(text.len()),
        _ => 1,
    };
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        *left = left.checked_sub(1)?;
        return list.inner().iter().try_for_each(|element| measure(&**element, left));
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        *left = left.checked_sub(1)?;
        return map.inner().iter().try_for_each(|(name, element)| {
            *left = left.checked_sub(key(name))?;
            measure(&**element, left)
        });
    }
    let parts = match (value.downcast_ref::<CelString<'_>>(), value.downcast_ref::<CelBytes<'_>>()) {
        (Some(text), _) => text_parts(text.inner().len()),
        (None, Some(bytes)) => text_parts(bytes.inner().len()),
        (None, None) => 1,
    };
    *left = left.checked_sub(parts)?;
    Some(())
}

/// Adds the functions that count. Returns the number of parts of the expression.
pub(super) fn meter(expression: &mut IdedExpr) -> u64 {
    1 + match &mut expression.expr {
        Expr::Call(call) => meter_call(call),
        Expr::Comprehension(comprehension) => meter_macro(comprehension),
        Expr::List(list) => list.elements.iter_mut().map(charged).sum(),
        Expr::Map(map) => map.entries.iter_mut().map(|entry| meter_entry(&mut entry.expr)).sum(),
        Expr::Select(select) => meter(&mut select.operand),
        Expr::Struct(message) => message.entries.iter_mut().map(|entry| meter_entry(&mut entry.expr)).sum(),
        Expr::Literal(LiteralValue::String(text)) => text_parts(text.inner().len()),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    }
}

fn meter_entry(entry: &mut EntryExpr) -> u64 {
    match entry {
        EntryExpr::MapEntry(entry) => charged(&mut entry.key) + charged(&mut entry.value),
        EntryExpr::StructField(field) => charged(&mut field.value),
    }
}

fn meter_call(call: &mut CallExpr) -> u64 {
    // The parser's own variable, to which macros append: copying it is what the crate avoids.
    let appends = call.func_name == operators::ADD && call.args.first().is_some_and(is_accumulator);
    let parts: &mut dyn Iterator<Item = &mut IdedExpr> =
        &mut call.target.as_deref_mut().into_iter().chain(&mut call.args);
    if appends || !handles_values(&call.func_name) {
        return parts.map(meter).sum();
    }
    let parts = parts.map(charged).sum();
    let is_matches = call.func_name == "matches";
    if is_matches {
        call.func_name = MATCHES.to_owned();
    }
    // The crate has no methods on numbers, and times are numbers.
    if is_matches || times::is_method(&call.func_name) {
        let target = call.target.take().map(|target| *target);
        call.args.splice(0..0, target);
    }
    parts
}

/// Whether the time or the memory that a function takes depends on the size of its arguments.
fn handles_values(function: &str) -> bool {
    !matches!(
        function,
        operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE
            | operators::INDEX
            | operators::NEGATE
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
    )
}

fn is_accumulator(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name.starts_with('@'))
}

/// Meters an expression, and has its value counted.
fn charged(expression: &mut IdedExpr) -> u64 {
    let parts = meter(expression);
    if !matches!(expression.expr, Expr::Literal(_)) {
        let id = expression.id;
        let value = std::mem::take(expression);
        *expression = called(id, CHARGE, vec![value]);
    }
    parts
}

fn meter_macro(comprehension: &mut ComprehensionExpr) -> u64 {
    let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = comprehension;
    let once: u64 = [iter_range, accu_init, result].into_iter().map(meter).sum();
    let repeated: u64 = [loop_cond, loop_step].into_iter().map(meter).sum();
    count(comprehension, repeated);
    once + repeated
}

/// Has every iteration counted. The crate recognises macros by their shape: without that, `map` and `filter` would copy
/// the whole list in every iteration. So the step is counted within what they append, within their guard, or within the
/// operand of `all` and `exists`.
fn count(comprehension: &mut ComprehensionExpr, parts: u64) {
    let place = match &mut comprehension.loop_step.expr {
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => call.args.first_mut(),
        Expr::Call(call) if [operators::LOGICAL_AND, operators::LOGICAL_OR].contains(&&*call.func_name) => {
            call.args.last_mut()
        }
        Expr::Call(call) if call.func_name == operators::ADD => match call.args.last_mut() {
            Some(IdedExpr { expr: Expr::List(list), .. }) => list.elements.first_mut(),
            _ => None,
        },
        _ => None,
    };
    let parts = LiteralValue::Int(i64::try_from(parts).unwrap_or(i64::MAX).into());
    let (place, has_element) = match place {
        Some(place) => (place, true),
        None => (&mut comprehension.loop_cond, false),
    };
    let id = place.id;
    let leaf = |expr| IdedExpr { id, expr };
    let element = has_element.then(|| leaf(Expr::Ident(comprehension.iter_var.clone())));
    let step = called(id, STEP, std::iter::once(leaf(Expr::Literal(parts))).chain(element).collect());
    let counted = std::mem::take(place);
    *place = called(id, operators::CONDITIONAL, vec![step, counted, leaf(Expr::Literal(LiteralValue::Null))]);
}

fn called(id: u64, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }) }
}

/// Whether an expression is nested no deeper than this. Evaluation is recursive.
pub(super) fn is_flat(expression: &IdedExpr, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let of_entry = |entry: &EntryExpr| match entry {
        EntryExpr::MapEntry(entry) => is_flat(&entry.key, depth) && is_flat(&entry.value, depth),
        EntryExpr::StructField(field) => is_flat(&field.value, depth),
    };
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).all(|part| is_flat(part, depth)),
        Expr::Comprehension(comprehension) => {
            let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = &**comprehension;
            [iter_range, accu_init, loop_cond, loop_step, result].into_iter().all(|part| is_flat(part, depth))
        }
        Expr::List(list) => list.elements.iter().all(|element| is_flat(element, depth)),
        Expr::Map(map) => map.entries.iter().all(|entry| of_entry(&entry.expr)),
        Expr::Select(select) => is_flat(&select.operand, depth),
        Expr::Struct(message) => message.entries.iter().all(|entry| of_entry(&entry.expr)),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => true,
    }
}
