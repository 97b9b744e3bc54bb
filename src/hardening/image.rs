//! The configuration of an image (OCI image specification, config.md).

use super::placeholder::{has_password, is_placeholder, is_switch, names_secret, secret_variable};
use super::places::file_name;
use super::{
    FileObservation, HardeningCheck, HardeningFinding, MAX_OBSERVATIONS, Superusers, mysql, secrets, shortened,
};

/// Ports of services that administer a machine without or with weak protection.
const PORTS: [(u16, &str); 9] = [
    (21, "FTP"),
    (22, "SSH"),
    (23, "Telnet"),
    (512, "rexec"),
    (513, "rlogin"),
    (514, "rsh"),
    (2375, "the Docker API without TLS"),
    (3389, "RDP"),
    (5900, "VNC"),
];

/// The parts of an image's configuration that are checked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImageSettings {
    /// `os`: `linux`, `windows`.
    pub os: String,
    /// `config.User`: `USER`, `USER:GROUP`, names or numbers. Empty for the default.
    pub user: String,
    /// `config.Env`: `NAME=VALUE`.
    pub env: Vec<String>,
    /// `config.Entrypoint`, then `config.Cmd`.
    pub command: Vec<String>,
    /// The keys of `config.ExposedPorts`: `22/tcp`.
    pub exposed_ports: Vec<String>,
    /// `created_by` of each entry of `history`.
    pub history: Vec<String>,
}

/// The findings about an image's configuration. `superusers` are those of its files.
pub fn image_findings(settings: &ImageSettings, superusers: &Superusers) -> Vec<HardeningFinding> {
    let mut found: Vec<(HardeningCheck, String)> = Vec::new();
    found.extend(user(settings, superusers).map(|detail| (HardeningCheck::ImageUser, detail)));
    found.extend(env(&settings.env).map(|detail| (HardeningCheck::ImageEnvSecret, detail)));
    found.extend(command(&settings.command));
    found.extend(ports(&settings.exposed_ports).map(|detail| (HardeningCheck::ImageExposedPort, detail)));
    found.extend(history(settings).map(|detail| (HardeningCheck::ImageHistorySecret, detail)));
    let finding =
        |(check, detail)| HardeningFinding { check, path: None, line: None, detail: shortened(detail), layer: None };
    found.into_iter().take(MAX_OBSERVATIONS * 8).map(finding).collect()
}

/// Why the image runs as the superuser, if it does. A name is looked up before a number is read, as runc does.
fn user(settings: &ImageSettings, superusers: &Superusers) -> Option<String> {
    let user = settings.user.split(':').next().unwrap_or_default().trim();
    if settings.os.eq_ignore_ascii_case("windows") {
        let is_administrator = user.is_empty() || user.eq_ignore_ascii_case("ContainerAdministrator");
        return is_administrator.then(|| "User is ContainerAdministrator".to_owned());
    }
    if user.is_empty() {
        return Some("User is not set, which means root".into());
    }
    let is_zero = user.parse() == Ok(0_i64);
    let is_superuser = user == "root" || superusers.contains(user) || is_zero;
    is_superuser.then(|| format!("User is {}", settings.user))
}

/// The variables that hold secrets.
fn env(env: &[String]) -> impl Iterator<Item = String> {
    env.iter().filter_map(|assignment| {
        let name = assignment.split('=').next().unwrap_or_default();
        let kind = secret_in(assignment);
        let named = secret_variable(assignment).map(|name| format!("Env {name}"));
        kind.map(|kind| format!("Env {name}: {kind}")).or(named)
    })
}

/// The kind of the first secret that a pattern finds.
fn secret_in(text: &str) -> Option<String> {
    secrets::search("", text.as_bytes()).into_iter().find_map(|found| match found {
        FileObservation::Unsafe { detail, .. } => Some(detail),
        _ => None,
    })
}

fn command(words: &[String]) -> Vec<(HardeningCheck, String)> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let url = has_password(word).then(|| "a URL with a password".to_owned());
        let named = || secret_option(word, words.get(at + 1)).map(|name| format!("{name} in the command"));
        found.extend(secret_in(word).or(url).or_else(named).map(|kind| (HardeningCheck::ImageCommandSecret, kind)));
    }
    let is_called = |name: &str| words.iter().any(|word| word.split_whitespace().any(|part| file_name(part) == name));
    if is_called("sshd") {
        found.push((HardeningCheck::ImageSshServer, "the command runs sshd".to_owned()));
    }
    if ["mariadbd", "mysqld", "mysqld_safe"].iter().any(|name| is_called(name)) {
        let options = mysql::arguments(words).into_iter().filter_map(|observed| match observed {
            FileObservation::Unsafe { check, detail, .. } => Some((check, format!("--{detail} in the command"))),
            _ => None,
        });
        found.extend(options);
    }
    found
}

/// The option or the variable that a word of a command, which can be a script, sets to a secret: `--password=x`,
/// `--password x`, `PGPASSWORD=x`.
fn secret_option<'a>(word: &'a str, next: Option<&'a String>) -> Option<&'a str> {
    let parts: Vec<&str> = word.split_whitespace().collect();
    let following = parts.iter().skip(1).copied().map(Some).chain([next.map(String::as_str)]);
    let option = |(part, value): (&&'a str, Option<&'a str>)| {
        let name = part.trim_start_matches('-');
        if part.contains('=') {
            return secret_variable(name);
        }
        let is_value = |value: &str| !value.starts_with('-') && !is_placeholder(value);
        let is_set = part.starts_with('-') && names_secret(name) && !is_switch(name) && value.is_some_and(is_value);
        is_set.then_some(name)
    };
    parts.iter().zip(following).find_map(option)
}

fn ports(exposed: &[String]) -> impl Iterator<Item = String> {
    exposed.iter().filter_map(|port| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number: u16 = number.parse().ok()?;
        let (_, service) = PORTS.iter().find(|(known, _)| *known == number && protocol.eq_ignore_ascii_case("tcp"))?;
        Some(format!("port {number} ({service}) is exposed"))
    })
}

/// Secrets in the steps that built the image. A variable that the image still has is not named twice.
fn history(settings: &ImageSettings) -> impl Iterator<Item = String> {
    settings.history.iter().enumerate().filter_map(|(index, step)| {
        let assigned = assignments(step)
            .into_iter()
            .filter(|assignment| !settings.env.iter().any(|known| known == assignment))
            .find_map(|assignment| secret_variable(assignment).map(str::to_owned));
        let is_in_env = settings.env.iter().any(|known| step.contains(&**known));
        let kind = secret_in(step).filter(|_| !is_in_env).or(assigned)?;
        Some(format!("step {} of the history: {kind}", index + 1))
    })
}

/// The assignments of a build step: `ENV` and `ARG` instructions, and the arguments of a build before a command
/// (`|1 TOKEN=x /bin/sh`).
fn assignments(step: &str) -> Vec<&str> {
    let words: Vec<&str> = step.split_whitespace().collect();
    let first = words.iter().take(6).position(|word| matches!(*word, "ARG" | "ENV"));
    if let Some(at) = first {
        return words[at + 1..].to_vec();
    }
    let arguments = words.iter().take(6).enumerate().find_map(|(at, word)| {
        let count: usize = word.strip_prefix('|')?.parse().ok()?;
        Some(words[at + 1..].iter().take(count).copied().collect())
    });
    arguments.unwrap_or_default()
}
