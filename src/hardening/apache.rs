//! Configuration files of the Apache HTTP Server.

use super::ciphers::{is_old_version, weak_suite};
use super::places::file_name;
use super::{FileObservation, HardeningCheck, MAX_OBSERVATIONS, ServerProgram, numbered_lines};

/// What `SSLProtocol all` enables, with OpenSSL's old versions compiled in.
const ALL_VERSIONS: [&str; 5] = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

/// The settings of a configuration file. Sections do not matter: a setting counts wherever it is.
pub(super) fn read(path: &str, text: &str) -> Vec<FileObservation> {
    let mut found = Vec::new();
    if matches!(file_name(path), "apache2.conf" | "httpd.conf") {
        found.push(FileObservation::Configures(ServerProgram::Apache));
    }
    // A backslash at the end continues a line; its parts keep their own numbers.
    let mut continued = String::new();
    for (number, line) in numbered_lines(text) {
        if let Some(part) = line.strip_suffix('\\').filter(|_| continued.len() < 8192) {
            continued.push_str(part);
            continued.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut continued) + line;
        let words: Vec<&str> = whole.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
        if let Some(observed) = directive(number, &words).filter(|observed| !is_repeated(observed, &found)) {
            found.push(observed);
        }
        if found.len() == MAX_OBSERVATIONS {
            break;
        }
    }
    found
}

/// Whether a fact is already known.
fn is_repeated(observed: &FileObservation, found: &[FileObservation]) -> bool {
    matches!(observed, FileObservation::Satisfies(_)) && found.contains(observed)
}

fn directive(line: usize, words: &[&str]) -> Option<FileObservation> {
    use HardeningCheck as Check;
    let [name, values @ ..] = words else { return None };
    let first = values.first()?.to_ascii_lowercase();
    let bad = |check| Some(FileObservation::unsafe_line(check, line, words.join(" ")));
    match &*name.to_ascii_lowercase() {
        "options" => {
            let lists =
                |word: &&str| ["+all", "+indexes", "all", "indexes"].iter().any(|on| on.eq_ignore_ascii_case(word));
            values.iter().any(lists).then(|| bad(Check::ApacheOptionsIndexes)).flatten()
        }
        "serversignature" if first != "off" => bad(Check::ApacheServerSignature),
        "servertokens" if matches!(&*first, "prod" | "productonly") => {
            Some(FileObservation::Satisfies(Check::ApacheServerTokens))
        }
        "servertokens" => bad(Check::ApacheServerTokens),
        "traceenable" if first == "off" => Some(FileObservation::Satisfies(Check::ApacheTraceEnable)),
        "traceenable" => bad(Check::ApacheTraceEnable),
        "sslprotocol" if enables_old_version(values) => bad(Check::ApacheSslProtocol),
        "sslciphersuite" => weak_suite(values.last()?).and_then(|_| bad(Check::ApacheSslCipherSuite)),
        "user" | "group" if first == "root" || first == "#0" => bad(Check::ApacheUser),
        _ => None,
    }
}

/// `SSLProtocol` of mod_ssl: `+` adds a version, `-` removes one, and a bare one replaces those before it.
fn enables_old_version(values: &[&str]) -> bool {
    let mut enabled: Vec<&str> = Vec::new();
    for value in values {
        let (sign, name) = match value.as_bytes().first() {
            Some(b'+' | b'-') => value.split_at(1),
            _ => ("", *value),
        };
        let named = if name.eq_ignore_ascii_case("all") { &ALL_VERSIONS[..] } else { std::slice::from_ref(&name) };
        let is_named = |version: &&str| named.iter().any(|name| name.eq_ignore_ascii_case(version));
        match sign {
            "-" => enabled.retain(|version| !is_named(version)),
            "+" => enabled.extend(named),
            _ => enabled = named.to_vec(),
        }
    }
    enabled.iter().any(|version| is_old_version(version))
}
