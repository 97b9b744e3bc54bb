//! Tips for options by which other tools are told the output format.

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Such options, without hyphens.
const FORMAT_OPTIONS: [&str; 4] = ["f", "fmt", "format", "output-format"];

/// Adds to an error about an unknown option how the command takes its output format, if that may be meant. `words` are
/// the arguments of the program.
pub(super) fn with_tip(
    mut error: clap::Error,
    command: &Command,
    words: impl IntoIterator<Item = String>,
) -> clap::Error {
    if let Some(tip) = tip(&error, command, words) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    error
}

fn tip(error: &clap::Error, command: &Command, words: impl IntoIterator<Item = String>) -> Option<String> {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else { return None };
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let called = words.into_iter().fold(command, |command, word| command.find_subcommand(&word).unwrap_or(command));
    let output = called.get_arguments().find(|argument| argument.get_id() == "output")?;
    let formats: Vec<String> = output.get_possible_values().iter().map(|format| format.get_name().to_owned()).collect();
    let word = wrong.trim_start_matches('-');
    let is_format = formats.iter().any(|format| format == word);
    let is_option = FORMAT_OPTIONS.contains(&word) && !formats.is_empty();
    let meant = if is_format { word.to_owned() } else { formats.join("|") };
    (is_format || is_option).then(|| format!("the output format is chosen with '--output {meant}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_for_the_format_names_the_right_one() {
        for (line, tip) in [
            ("images --format json", Some("'--output json|table'")),
            ("images --format=json", Some("'--output json|table'")),
            ("images -f json", Some("'--output json|table'")),
            ("images --json", Some("'--output json'")),
            ("cache list --output-format json", Some("'--output json|table'")),
            ("policy check --json dir", Some("'--output json'")),
            ("va --format json nginx", Some("json")),
            ("check --sarif nginx", Some("'--output sarif'")),
            ("images --sarif", None),
            ("images --colour", None),
            ("demo --format json", None),
            ("images --output xml", None),
        ] {
            let words = || line.split(' ').map(str::to_owned);
            let program = std::iter::once("pullgate".to_owned());
            let error = crate::cli::command().try_get_matches_from(program.chain(words())).unwrap_err();
            let text = with_tip(error, &crate::cli::command(), words()).to_string();
            let expected = tip.map(|tip| text.contains("tip: the output format is chosen with") && text.contains(tip));
            assert_ne!(expected, Some(false), "{line}: {text}");
            assert_eq!(tip.is_some(), text.contains("tip: the output format"), "{line}: {text}");
        }
    }
}
