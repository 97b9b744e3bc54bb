//! Distinguishes secrets from placeholders, and names of secrets from other names.

/// Words that a secret does not contain.
const PLACEHOLDERS: [&str; 10] =
    ["changeme", "change-me", "change_me", "example", "omitted", "placeholder", "redacted", "xxxxxx", "****", "your-"];
/// Values that are settings, not secrets.
const SETTINGS: [&str; 12] =
    ["0", "1", "disabled", "enabled", "false", "no", "none", "null", "off", "on", "true", "yes"];
/// The last words of the names of variables that hold secrets.
const SECRET_NAMES: [&str; 8] = ["APIKEY", "PASS", "PASSWD", "PASSPHRASE", "PASSWORD", "SECRET", "SECRETKEY", "TOKEN"];
/// The words before a last `KEY` that make it a secret.
const SECRET_KEYS: [&str; 7] = ["ACCESS", "ACCOUNT", "API", "AUTH", "ENCRYPTION", "PRIVATE", "SECRET"];
/// Words that end like the name of a secret but do not name one.
const NO_SECRETS: [&str; 3] = ["ASKPASS", "BYPASS", "COMPASS"];
/// Words of options that are about a secret but are not followed by one: `--no-password`, `--ask-vault-pass`.
const SWITCHES: [&str; 11] =
    ["ALLOW", "ASK", "DISABLE", "ENABLE", "NO", "PROMPT", "REQUIRE", "SKIP", "USE", "WITH", "WITHOUT"];

/// Whether an option of this name only switches something on or off.
pub(super) fn is_switch(name: &str) -> bool {
    let words = words(name);
    words.iter().any(|word| SWITCHES.contains(&word.as_str())) || words == ["PROXY", "PASS"]
}

/// Whether a variable of this name holds a secret: `DB_PASSWORD`, `apiToken`, `AWS_SECRET_ACCESS_KEY`, but not
/// `PASSWORD_FILE` and `GPG_KEY`.
pub(super) fn names_secret(name: &str) -> bool {
    let words = words(name);
    match &words[..] {
        [.., before, last] if last == "KEY" => SECRET_KEYS.contains(&before.as_str()),
        // `DB_PWD`; alone it is the working directory.
        [.., _, last] if last == "PWD" => true,
        // `PGPASSWORD`, `SSHPASS`
        [.., last] => {
            let is_joined = ["PASS", "PASSWORD"].iter().any(|end| last.ends_with(end));
            SECRET_NAMES.contains(&last.as_str()) || (is_joined && !NO_SECRETS.contains(&last.as_str()))
        }
        [] => false,
    }
}

/// The words of a name in upper case: `apiToken` has `API` and `TOKEN`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars().take(256) {
        let is_new = matches!(letter, '_' | '-' | '.') || (was_lower && letter.is_ascii_uppercase());
        was_lower = letter.is_ascii_lowercase();
        if is_new {
            words.push(String::new());
        }
        if letter.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(letter.to_ascii_uppercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a value is not a secret: it is empty, a setting, a path, a reference to something else, or an example.
pub(super) fn is_placeholder(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    let lower = value.to_ascii_lowercase();
    let is_path = value.starts_with('/') || value.starts_with("./") || value.starts_with("file:");
    let is_reference = ["${", "$(", "{{", "<", "%(", "__", "`"].iter().any(|mark| value.contains(mark))
        || value.starts_with('$')
        || (value.len() > 2 && value.starts_with('%') && value.ends_with('%'));
    let is_repeated = value.bytes().all(|byte| Some(byte) == value.bytes().next());
    value.is_empty()
        || is_path
        || is_reference
        || is_repeated
        || SETTINGS.contains(&&*lower)
        || PLACEHOLDERS.iter().any(|placeholder| lower.contains(placeholder))
}

/// Whether a URL contains a password: `postgres://app:secret@db/app`.
pub(super) fn has_password(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    is_scheme && user.split_once(':').is_some_and(|(_, password)| !is_placeholder(password))
}

/// The name of a variable that is set to a secret, in `NAME=VALUE`.
pub(super) fn secret_variable(assignment: &str) -> Option<&str> {
    let (name, value) = assignment.split_once('=')?;
    let (name, value) = (name.trim(), value.trim().trim_matches(['"', '\'']));
    let is_secret = (names_secret(name) && !is_placeholder(value)) || has_password(value);
    is_secret.then_some(name)
}
