//! Canonical JSON as notary signs it (github.com/docker/go, `canonical/json`).

use serde_json::Value;

use super::envelope::InvalidDocument;

/// The canonical form: keys sorted by their bytes, no white space, only `"` and `\` escaped, integers only.
///
/// # Errors
/// The value contains a number that is not an integer.
pub fn canonical(value: &Value) -> Result<Vec<u8>, InvalidDocument> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), InvalidDocument> {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(number) if number.is_i64() || number.is_u64() => out.extend(number.to_string().bytes()),
        Value::Number(number) => return Err(InvalidDocument::new(format!("the number {number} is not an integer"))),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
            out.push(b'{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
