//! Secrets: a table names the file or the variable that has one.

use crate::config::reader::Table;
use crate::runtime::Secret;

/// The user of basic authentication (RFC 7617, section 2): a colon ends it.
pub(super) fn username(table: &mut Table<'_>) -> Option<String> {
    let username = table.text("username");
    match &username {
        None => table.problem("username", "basic credentials need a username", None),
        Some(name) if name.contains(|c: char| c == ':' || c.is_control()) => {
            let hint = "the password belongs in a file or a variable: password_file, password_env";
            table.problem("username", "a user name cannot have a colon or a control character", Some(hint));
        }
        Some(_) => {}
    }
    username
}

/// Reads where a secret is: `NAME_file` or `NAME_env`. `NAME` itself is refused: the configuration is shown and copied.
pub(super) fn secret(
    table: &mut Table<'_>,
    inline: &'static str,
    file: &'static str,
    variable: &'static str,
) -> Option<Secret> {
    if table.has(inline) {
        let hint = format!("write {file} = \"…\" or {variable} = \"…\"");
        table.problem(inline, "a secret must not be in the configuration", Some(&hint));
        return None;
    }
    match (table.file(file), table.text(variable)) {
        (Some(_), Some(_)) => {
            table.problem(variable, format!("{file} names the secret, too"), Some("remove one of the two"));
            None
        }
        (Some(path), None) => Some(Secret::File(path)),
        (None, Some(name)) => Some(Secret::Env(name)),
        (None, None) => {
            table.problem(file, format!("{file} or {variable} is required"), None);
            None
        }
    }
}
