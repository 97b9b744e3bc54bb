//! JSON as values of CEL.

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::Key;
use serde_json::Value;

use super::Variable;

/// The maximum number of JSON values of one variable: in memory, each takes about a hundred bytes.
const MAX_VALUES: usize = 200_000;

/// The value of a variable.
///
/// # Errors
/// It has more than [`MAX_VALUES`] parts.
pub(super) fn of(variable: Variable<'_>) -> Result<cel::Value, String> {
    match variable {
        Variable::Json(value) => {
            let mut left = MAX_VALUES;
            of_json(value, &mut left).ok_or_else(|| format!("the value has more than {MAX_VALUES} parts"))
        }
        Variable::Text(text) => Ok(text.into()),
        Variable::Time(time) => Ok(cel::Value::Int(time.as_millisecond())),
    }
}

/// Whole numbers become `int`, so that they can be compared with literals such as `3` and added to them. The depth is
/// limited by the JSON parser.
fn of_json(value: &Value, left: &mut usize) -> Option<cel::Value> {
    *left = left.checked_sub(1)?;
    Some(match value {
        Value::Null => cel::Value::Null,
        Value::Bool(flag) => cel::Value::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => cel::Value::Int(number),
            None => cel::Value::Float(number.as_f64()?),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => {
            let items = items.iter().map(|item| of_json(item, left)).collect::<Option<Vec<_>>>()?;
            cel::Value::List(Arc::new(items))
        }
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| Some((Key::from(key.clone()), of_json(value, left)?));
            let members: HashMap<Key, cel::Value> = members.iter().map(member).collect::<Option<_>>()?;
            cel::Value::from(members)
        }
    })
}
