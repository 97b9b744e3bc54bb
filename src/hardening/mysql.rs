//! Option files of MySQL and MariaDB.

use super::placeholder::is_placeholder;
use super::{FileObservation, HardeningCheck, MAX_OBSERVATIONS, ServerProgram, numbered_lines};

/// The settings of an option file. `_` and `-` are the same in names.
pub(super) fn read(text: &str) -> Vec<FileObservation> {
    let mut found = Vec::new();
    let (mut group, mut is_server) = (String::new(), false);
    for (number, line) in numbered_lines(text).filter(|(_, line)| !line.starts_with(['#', ';', '!'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.split(']').next()) {
            group = name.trim().to_ascii_lowercase();
            is_server |= is_server_group(&group);
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let value = value.map(|value| value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']));
        let name = name.trim().to_ascii_lowercase().replace('_', "-");
        let name = name.strip_prefix("loose-").unwrap_or(&name);
        if name == "password" && value.is_some_and(|value| !is_placeholder(value)) {
            let detail = format!("password in [{group}]");
            found.push(FileObservation::unsafe_line(HardeningCheck::MysqlPassword, number, detail));
        } else if is_server_group(&group) {
            found.extend(option(name, value, number));
        }
        if found.len() + 1 >= MAX_OBSERVATIONS {
            break;
        }
    }
    if is_server {
        found.push(FileObservation::Configures(ServerProgram::Mysql));
    }
    found
}

/// Options of the server on its command line: `--skip-grant-tables`.
pub(super) fn arguments(words: &[String]) -> Vec<FileObservation> {
    let options = words.iter().filter_map(|word| word.strip_prefix("--")).flat_map(|option_text| {
        let (name, value) =
            option_text.split_once('=').map_or((option_text, None), |(name, value)| (name, Some(value)));
        option(&name.to_ascii_lowercase().replace('_', "-"), value, 0)
    });
    options.filter(|found| matches!(found, FileObservation::Unsafe { .. })).collect()
}

fn is_server_group(group: &str) -> bool {
    ["mysqld", "mariadbd", "mariadb", "server"].iter().any(|name| {
        // `[mysqld-8.0]`, `[mariadb-10.11]`.
        group.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// The observation for one option of the server. An option without a value is on.
fn option(name: &str, value: Option<&str>, line: usize) -> Option<FileObservation> {
    use HardeningCheck as Check;
    let is_on = !value.is_some_and(|value| matches!(&*value.to_ascii_lowercase(), "0" | "false" | "off" | "disabled"));
    let has_value = value.is_some_and(|value| !value.is_empty());
    let required = match name {
        "log-error" => Some((Check::MysqlLogError, is_on)),
        "skip-show-database" => Some((Check::MysqlSkipShowDatabase, is_on)),
        "ssl-ca" | "ssl-capath" => Some((Check::MysqlSslCa, has_value)),
        "ssl-cert" => Some((Check::MysqlSslCert, has_value)),
        "ssl-key" => Some((Check::MysqlSslKey, has_value)),
        _ => None,
    };
    if let Some((check, is_satisfied)) = required {
        return is_satisfied.then_some(FileObservation::Satisfies(check));
    }
    let (check, is_unsafe) = match name {
        "allow-suspicious-udfs" => (Check::MysqlAllowSuspiciousUdfs, is_on),
        "local-infile" => (Check::MysqlLocalInfile, is_on),
        "old-passwords" => (Check::MysqlOldPasswords, is_on),
        "secure-file-priv" => (Check::MysqlSecureFilePriv, value == Some("")),
        "skip-grant-tables" => (Check::MysqlSkipGrantTables, is_on),
        "user" => (Check::MysqlUser, matches!(value, Some("root" | "0"))),
        _ => return None,
    };
    let detail = value.map_or_else(|| name.to_owned(), |value| format!("{name} = {value}"));
    is_unsafe.then(|| FileObservation::unsafe_line(check, line, detail))
}
