//! Configuration files of NGINX.

use super::ciphers::{is_old_version, weak_suite};
use super::places::file_name;
use super::{FileObservation, HardeningCheck, MAX_OBSERVATIONS, ServerProgram};

/// The maximum number of words that are kept of a directive; a list of cipher suites is one word.
const MAX_WORDS: usize = 64;

/// The settings of a configuration file.
pub(super) fn read(path: &str, text: &str) -> Vec<FileObservation> {
    let mut found = Vec::new();
    each_directive(text, |line, words| {
        for observed in directive(path, line, words) {
            // Facts that are already known take no room.
            let is_known = matches!(observed, FileObservation::Configures(_) | FileObservation::Satisfies(_))
                && found.contains(&observed);
            if found.len() < MAX_OBSERVATIONS && !is_known {
                found.push(observed);
            }
        }
    });
    found
}

fn directive(path: &str, line: usize, words: &[String]) -> Vec<FileObservation> {
    use HardeningCheck as Check;
    let [name, values @ ..] = words else { return Vec::new() };
    let first = values.first().map(String::as_str).unwrap_or_default();
    let bad = |check, is_unsafe: bool| {
        is_unsafe.then(|| FileObservation::unsafe_line(check, line, format!("{name} {}", values.join(" "))))
    };
    let is_header = |header: &str| first.eq_ignore_ascii_case(header);
    let found = match &**name {
        "http" if file_name(path) == "nginx.conf" => Some(FileObservation::Configures(ServerProgram::Nginx)),
        "listen" if values.iter().any(|value| value == "ssl" || value == "quic") => {
            Some(FileObservation::Configures(ServerProgram::NginxTls))
        }
        "add_header" if is_header("Strict-Transport-Security") => {
            Some(FileObservation::Satisfies(Check::NginxAddHeader))
        }
        "server_tokens" if first == "off" => Some(FileObservation::Satisfies(Check::NginxServerTokens)),
        // A custom value (in the commercial version) also hides the version.
        "server_tokens" => bad(Check::NginxServerTokens, matches!(first, "on" | "build"))
            .or(Some(FileObservation::Satisfies(Check::NginxServerTokens))),
        "autoindex" => bad(Check::NginxAutoindex, first == "on"),
        "ssl_protocols" => bad(Check::NginxSslProtocols, values.iter().any(|version| is_old_version(version))),
        "ssl_ciphers" => weak_suite(first).map(|suite| {
            FileObservation::unsafe_line(Check::NginxSslCiphers, line, format!("ssl_ciphers contains {suite}"))
        }),
        "user" => bad(Check::NginxUser, first == "root"),
        _ => None,
    };
    found.into_iter().collect()
}

/// Calls `see` with the line and the words of each directive. A block's own directive ends at `{`.
fn each_directive(text: &str, mut see: impl FnMut(usize, &[String])) {
    let (mut words, mut word, mut line, mut quote, mut is_quoted): (Vec<String>, String, _, Option<char>, _) =
        (Vec::new(), String::new(), 1, None, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        line += usize::from(letter == '\n');
        match (quote, letter) {
            (_, '\\') => word.extend(letters.next().inspect(|next| line += usize::from(*next == '\n'))),
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), letter) => word.push(letter),
            (None, '"' | '\'') if word.is_empty() => (quote, is_quoted) = (Some(letter), true),
            (None, '#') if word.is_empty() => {
                line += usize::from(letters.by_ref().any(|letter| letter == '\n'));
            }
            (None, letter) if letter.is_whitespace() || matches!(letter, ';' | '{' | '}') => {
                if (!word.is_empty() || is_quoted) && words.len() < MAX_WORDS {
                    words.push(std::mem::take(&mut word));
                }
                word.clear();
                is_quoted = false;
                if matches!(letter, ';' | '{' | '}') {
                    see(line, &words);
                    words.clear();
                }
            }
            (None, letter) => word.push(letter),
        }
    }
}
