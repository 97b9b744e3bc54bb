//! Secrets: a table names the file or the variable that has one.

use crate::config::reader::Table;
use crate::runtime::Secret;

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
    let secret = table.file(file).map(Secret::File).or_else(|| table.text(variable).map(Secret::Env));
    if secret.is_none() {
        table.problem(file, format!("{file} or {variable} is required"), None);
    }
    secret
}
