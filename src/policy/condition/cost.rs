//! A limit on the steps of an evaluation. The crate `cel` has none, so every iteration of a macro is made to call a
//! function that counts and fails when the limit is exceeded.
//!
//! Everything else is limited by the length of the condition and the size of its values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cel::ExecutionError;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// The function that counts. Its name cannot be written in CEL.
pub(super) const STEP: &str = "@step";

/// The maximum number of iterations of all macros together.
const MAX_STEPS: u32 = 100_000;

/// The steps of one evaluation.
#[derive(Default)]
pub(super) struct StepBudget {
    steps: Arc<AtomicU32>,
}

impl StepBudget {
    /// The function [`STEP`]: true, or an error when the budget is exhausted.
    pub(super) fn counter(&self) -> impl Fn() -> Result<bool, ExecutionError> + Send + Sync + 'static {
        let steps = self.steps.clone();
        move || match steps.fetch_add(1, Ordering::Relaxed) {
            spent if spent < MAX_STEPS => Ok(true),
            _ => Err(ExecutionError::function_error(STEP, "too many steps")),
        }
    }

    /// Whether a step failed.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps.load(Ordering::Relaxed) > MAX_STEPS
    }
}

/// Makes every iteration of every macro call [`STEP`].
pub(super) fn meter(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(meter),
        Expr::Comprehension(comprehension) => {
            let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = &mut **comprehension;
            [iter_range, accu_init, loop_cond, loop_step, result].into_iter().for_each(meter);
            count(comprehension);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(meter),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| match &mut entry.expr {
            EntryExpr::MapEntry(entry) => [&mut entry.key, &mut entry.value].into_iter().for_each(meter),
            EntryExpr::StructField(field) => meter(&mut field.value),
        }),
        Expr::Select(select) => meter(&mut select.operand),
        Expr::Struct(message) => message.entries.iter_mut().for_each(|entry| match &mut entry.expr {
            EntryExpr::MapEntry(entry) => [&mut entry.key, &mut entry.value].into_iter().for_each(meter),
            EntryExpr::StructField(field) => meter(&mut field.value),
        }),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

/// `map` and `filter` are recognised by their loop condition, a literal: without that, they would copy the whole list in
/// every iteration. So the step is counted within what they append, or within their guard.
fn count(comprehension: &mut ComprehensionExpr) {
    let place = match (&comprehension.loop_cond.expr, &mut comprehension.loop_step.expr) {
        (Expr::Literal(_), Expr::Call(call)) if call.func_name == operators::CONDITIONAL => call.args.first_mut(),
        (Expr::Literal(_), Expr::Call(call)) if call.func_name == operators::ADD => match call.args.last_mut() {
            Some(IdedExpr { expr: Expr::List(list), .. }) => list.elements.first_mut(),
            _ => None,
        },
        _ => None,
    };
    let place = place.unwrap_or(&mut comprehension.loop_cond);
    let counted = std::mem::take(place);
    let otherwise = IdedExpr { id: counted.id, expr: Expr::Literal(LiteralValue::Null) };
    let call = |name: &str, args| CallExpr { func_name: name.to_owned(), target: None, args };
    let step = IdedExpr { id: counted.id, expr: Expr::Call(call(STEP, Vec::new())) };
    place.id = counted.id;
    place.expr = Expr::Call(call(operators::CONDITIONAL, vec![step, counted, otherwise]));
}
