//! The SSH server (sshd_config(5), sshd(8)).

use super::{FileObservation, HardeningCheck, MAX_OBSERVATIONS, numbered_lines};

/// Settings that let anyone in, or the superuser with a password. If a keyword is repeated, the first one counts; each
/// `Match` begins a section with its own settings.
pub(super) fn config(text: &str) -> Vec<FileObservation> {
    let mut found = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (number, line) in numbered_lines(text).filter(|(_, line)| !line.starts_with('#')) {
        let mut words =
            line.split(|letter: char| letter.is_whitespace() || letter == '=').filter(|word| !word.is_empty());
        let (Some(keyword), Some(value)) = (words.next(), words.next()) else { continue };
        let keyword = keyword.to_ascii_lowercase();
        let check = match &*keyword {
            "match" => {
                seen.clear();
                continue;
            }
            "permitrootlogin" => HardeningCheck::SshPermitRootLogin,
            "permitemptypasswords" => HardeningCheck::SshPermitEmptyPasswords,
            _ => continue,
        };
        if !seen.contains(&keyword) && value.trim_matches('"').eq_ignore_ascii_case("yes") {
            found.push(FileObservation::unsafe_line(check, number, line));
        }
        seen.push(keyword);
        if found.len() == MAX_OBSERVATIONS {
            break;
        }
    }
    found
}

/// Keys that may log in.
pub(super) fn authorized_keys(text: &str) -> Vec<FileObservation> {
    let is_key = |word: &str| {
        ["ecdsa-sha2-", "sk-ecdsa-sha2-", "sk-ssh-", "ssh-"].iter().any(|kind| word.trim_matches('"').starts_with(kind))
    };
    let lines = numbered_lines(text).filter(|(_, line)| !line.starts_with('#'));
    let keys = lines.filter_map(|(number, line)| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| is_key(word))?;
        let comment = words.get(at + 2..).unwrap_or_default().join(" ");
        let detail = format!("{} {comment}", words[at]);
        Some(FileObservation::unsafe_line(HardeningCheck::SshAuthorizedKeys, number, detail.trim_end()))
    });
    keys.take(MAX_OBSERVATIONS).collect()
}
