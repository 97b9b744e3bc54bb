//! Escapes external text for output on a terminal.

use std::borrow::Cow;

/// Escapes characters in external text that would control a terminal or reorder the displayed text, as in `\u{1b}`:
/// control characters (C0, DEL, C1), line separators, and Unicode's bidirectional controls.
///
/// ```
/// assert_eq!(pullgate::runtime::printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_control(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// The same for multi-line text: line feeds are kept.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_are_escaped() {
        for (text, shown) in [
            ("openssl ü 包", "openssl ü 包"),
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("a\nb\tc\u{7f}", "a\\u{a}b\\u{9}c\\u{7f}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{202e}evil\u{2066}\u{200f}", "\\u{202e}evil\\u{2066}\\u{200f}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\r\n\u{1b}b"), "a\\u{d}\n\\u{1b}b");
    }
}
