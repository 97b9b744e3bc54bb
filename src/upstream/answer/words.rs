//! The error message of a registry, for display to users.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use serde_json::Value;
use tokio::time::timeout;

/// The maximum number of bytes read from an error body.
const MAX_BODY: usize = 16 * 1024;
/// The time limit for reading an error body.
const MAX_TIME: Duration = Duration::from_secs(2);
/// The maximum length of a code and of a message, in characters.
const MAX_TEXT: usize = 200;

/// The first error in the body of a refusal, formatted to follow the status in a sentence: ` (CODE: "message")`.
/// Supports the format of the distribution specification ("Error Codes"), that of OAuth (RFC 6749 §5.2), a message in a
/// member of its own, and a line of plain text. Empty for anything else, such as a web page.
pub(in crate::upstream) async fn words<B>(body: B) -> String
where
    B: Body<Data = Bytes> + Unpin,
{
    match timeout(MAX_TIME, read(body)).await {
        Ok(Some(bytes)) => first_error(&bytes).unwrap_or_default(),
        Ok(None) | Err(_) => String::new(),
    }
}

/// The body; `None` if it is interrupted or larger than any error message.
async fn read<B>(mut body: B) -> Option<BytesMut>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return None;
        }
        bytes.extend_from_slice(&data);
    }
    Some(bytes)
}

fn first_error(bytes: &[u8]) -> Option<String> {
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else { return first_line(bytes) };
    let first = body.get("errors").and_then(|errors| errors.get(0)).unwrap_or(&body);
    let text = |key: &&str| first.get(*key).and_then(Value::as_str).map(printable).filter(|text| !text.is_empty());
    let code = ["code", "error"].iter().find_map(text);
    match (code, ["message", "error_description", "details", "detail"].iter().find_map(text)) {
        (Some(code), Some(message)) => Some(format!(" ({code}: \"{message}\")")),
        (Some(one), None) => Some(format!(" ({one})")),
        (None, Some(message)) => Some(format!(" (\"{message}\")")),
        (None, None) => None,
    }
}

/// The first line of plain text; `None` for text that looks like markup or broken JSON.
fn first_line(bytes: &[u8]) -> Option<String> {
    let line = str::from_utf8(bytes).ok()?.trim_start().lines().next().map(printable)?;
    let is_text = line.starts_with(char::is_alphanumeric);
    is_text.then(|| format!(" (\"{line}\")"))
}

/// At most [`MAX_TEXT`] letters, digits, symbols and spaces: no characters that move the cursor, change the writing
/// direction or end the quotation.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '"' => '\'',
        c if c.is_ascii_graphic() || c.is_alphanumeric() => c,
        _ => ' ',
    };
    let mut shown: String = text.trim().chars().take(MAX_TEXT).map(shown).collect();
    if text.trim().chars().count() > MAX_TEXT {
        shown.push_str("...");
    }
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn only_the_first_error_is_reported() {
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(300));
        let cut = format!(" (\"{}...\")", "x".repeat(200));
        let huge = format!(r#"{{"errors":[{{"code":"A"}}],"x":"{}"}}"#, "x".repeat(MAX_BODY));
        for (body, wanted) in [
            (r#"{"errors":[{"code":"TOO_MANY","message":"max is 100"},{"code":"B"}]}"#, r#" (TOO_MANY: "max is 100")"#),
            (r#"{"errors":[{"code":"A"}]}"#, " (A)"),
            (r#"{"errors":[{"message":"a\u001b[31m\r\nb \u202ec\"d"}]}"#, r#" ("a [31m  b  c'd")"#),
            (r#"{"errors":[{"message":7}]}"#, ""),
            (r#"{"errors":[]}"#, ""),
            (r#"{"errors":{"code":"A"}}"#, ""),
            (r#"{"error":"invalid_grant","error_description":"gone"}"#, r#" (invalid_grant: "gone")"#),
            (r#"{"details":"incorrect username or password"}"#, r#" ("incorrect username or password")"#),
            ("account locked\r\nsecond line", r#" ("account locked")"#),
            ("<html>", ""),
            ("{broken", ""),
            ("", ""),
            ("\u{1b}[31m", ""),
            (&*long, &*cut),
            (&*huge, ""),
        ] {
            let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
            assert_eq!(words(body).await, wanted);
        }
    }
}
