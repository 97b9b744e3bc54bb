//! Answers of `check` as a test suite in the XML format of JUnit, which CI systems show.
//!
//! Each image is a test case. A denied image is a failure; one that could not be judged is an error; one that is served
//! only because denials are not enforced passes, with the reason in its output.

use super::CheckedImage;
use crate::api::{CheckAnswer, Decision};

/// The document of these images, with the gate that judged them.
pub(super) fn suite(checked: &[CheckedImage], judged_by: &str) -> String {
    let count = |wanted: &str| checked.iter().filter(|one| element(one) == Some(wanted)).count();
    let counts = format!("tests=\"{}\" failures=\"{}\" errors=\"{}\"", checked.len(), count("failure"), count("error"));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"pullgate check\" {counts}>\n\
         <testsuite name=\"pullgate check\" {counts}>\n\
         <properties><property name=\"judged_by\" value=\"{}\"/></properties>\n",
        escaped(judged_by)
    );
    for one in checked {
        text.push_str(&format!("<testcase classname=\"pullgate.check\" name=\"{}\">", escaped(&one.image)));
        match (element(one), &one.answer) {
            (Some(element), Ok(answer)) => {
                let (kind, message) = (answer.decision.as_str(), escaped(&answer.message));
                text.push_str(&format!("<{element} type=\"{kind}\" message=\"{message}\">{message}</{element}>"));
            }
            (Some(element), Err(error)) => {
                text.push_str(&format!("<{element} type=\"error\" message=\"{}\"/>", escaped(error)));
            }
            (None, Ok(answer)) => notes(&mut text, answer),
            (None, Err(_)) => {}
        }
        text.push_str("</testcase>\n");
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}

/// What the test case contains; `None` if it passes.
fn element(checked: &CheckedImage) -> Option<&'static str> {
    match checked.answer.as_ref().map(|answer| answer.decision) {
        Ok(Decision::Admit | Decision::WouldDeny) => None,
        Ok(Decision::Deny) => Some("failure"),
        Ok(Decision::Pending | Decision::Unavailable) | Err(_) => Some("error"),
    }
}

fn notes(text: &mut String, answer: &CheckAnswer) {
    let denials = answer.would_deny.iter().map(|denial| format!("would be denied: {denial}"));
    let warnings = answer.warnings.iter().map(|warning| format!("admitted temporarily: {warning}"));
    let lines: Vec<String> = denials.chain(warnings).map(|line| escaped(&line)).collect();
    if !lines.is_empty() {
        text.push_str(&format!("<system-out>{}</system-out>", lines.join("\n")));
    }
}

/// The text in an element or in an attribute, in one line: CI systems obey lines of a log that begin in a certain way,
/// and names of packages are the choice of who made the image. Other control characters are not allowed in XML 1.0,
/// even escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                out.extend(character.escape_unicode());
            }
            character => out.push(character),
        }
    }
    out
}
