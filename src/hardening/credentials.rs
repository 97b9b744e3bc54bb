//! Files in which programs keep credentials.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::placeholder::{has_password, is_placeholder, secret_variable};
use super::places::KnownFile;
use super::{FileObservation, HardeningCheck, MAX_OBSERVATIONS, numbered_lines};

/// The credentials in a file of this kind.
pub(super) fn read(known: KnownFile, text: &str) -> Vec<FileObservation> {
    match known {
        KnownFile::AwsCredentials => by_line(text, HardeningCheck::SecretAws, aws),
        KnownFile::DockerConfig => docker_config(text),
        KnownFile::EnvFile => by_line(text, HardeningCheck::SecretEnvFile, env_file),
        KnownFile::GcpCredentials => gcp(text),
        KnownFile::GitCredentials => by_line(text, HardeningCheck::SecretGitCredentials, |line| {
            has_password(line).then(|| "a URL with a password".to_owned())
        }),
        KnownFile::Kubeconfig => by_line(text, HardeningCheck::SecretKubeconfig, kubeconfig),
        KnownFile::Netrc => netrc(text),
        KnownFile::Npmrc => by_line(text, HardeningCheck::SecretNpm, npmrc),
        KnownFile::Pgpass => by_line(text, HardeningCheck::SecretPgpass, pgpass),
        KnownFile::Pypirc => by_line(text, HardeningCheck::SecretPypi, |line| {
            setting(line, '=').filter(|(name, _)| *name == "password").map(|_| "password".to_owned())
        }),
        // Private keys are found by their content.
        _ => Vec::new(),
    }
}

/// The lines for which `find` returns a description.
fn by_line(text: &str, check: HardeningCheck, find: impl Fn(&str) -> Option<String>) -> Vec<FileObservation> {
    let lines = numbered_lines(text).filter(|(_, line)| !line.starts_with(['#', ';']));
    let found = lines.filter_map(|(number, line)| Some(FileObservation::unsafe_line(check, number, find(line)?)));
    found.take(MAX_OBSERVATIONS).collect()
}

/// The name and the value of a setting that has one.
fn setting(line: &str, separator: char) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(separator)?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!is_placeholder(value)).then_some((name.trim(), value))
}

fn aws(line: &str) -> Option<String> {
    let (name, _) = setting(line, '=')?;
    matches!(name, "aws_secret_access_key" | "aws_session_token").then(|| name.to_owned())
}

fn env_file(line: &str) -> Option<String> {
    let assignment = line.strip_prefix("export ").unwrap_or(line);
    secret_variable(assignment).map(str::to_owned)
}

/// The keys of a kubeconfig with credentials (k8s.io/client-go, `clientcmd/api/v1`), anywhere in a line: JSON and YAML
/// in the flow style have several in one.
fn kubeconfig(line: &str) -> Option<String> {
    let quotes = ['"', '\''];
    let is_set_at = |at: usize, name: &str| {
        let is_begun =
            line[..at].chars().next_back().is_none_or(|before| before.is_whitespace() || "{,\"'".contains(before));
        let rest = line[at + name.len()..].trim_start_matches(quotes).trim_start();
        let value = rest.strip_prefix(':').map(|value| value.trim_start().trim_start_matches(quotes));
        let value = value.and_then(|value| value.split([',', '}', ']', '"', '\'']).next());
        is_begun && value.is_some_and(|value| !is_placeholder(value))
    };
    let is_set = |name: &&str| line.match_indices(*name).any(|(at, _)| is_set_at(at, name));
    ["client-key-data", "id-token", "password", "refresh-token", "token"].into_iter().find(is_set).map(str::to_owned)
}

/// `//registry.npmjs.org/:_authToken=…` of npm, `npmAuthToken: …` of Yarn.
fn npmrc(line: &str) -> Option<String> {
    let npm = setting(line, '=').map(|(name, _)| name.rsplit(':').next().unwrap_or(name));
    let yarn = setting(line, ':').map(|(name, _)| name);
    let is_secret =
        |name: &&str| matches!(*name, "_auth" | "_authToken" | "_password" | "npmAuthIdent" | "npmAuthToken");
    npm.filter(is_secret).or(yarn.filter(is_secret)).map(str::to_owned)
}

/// `HOST:PORT:DATABASE:USER:PASSWORD`, with `\:` for a colon.
fn pgpass(line: &str) -> Option<String> {
    let line = line.replace("\\:", "");
    let fields: Vec<&str> = line.split(':').collect();
    let [host, _, _, user, password] = fields[..] else { return None };
    (!is_placeholder(password)).then(|| format!("the password of {user} at {host}"))
}

/// `machine HOST login USER password PASSWORD`, in any number of lines.
fn netrc(text: &str) -> Vec<FileObservation> {
    let words = numbered_lines(text)
        .filter(|(_, line)| !line.starts_with('#'))
        .flat_map(|(number, line)| line.split_whitespace().map(move |word| (number, word)));
    let (mut found, mut machine, mut before) = (Vec::new(), "any machine", "");
    for (number, word) in words {
        match before {
            "machine" => machine = word,
            "password" if !is_placeholder(word) => {
                let detail = format!("the password for {machine}");
                found.push(FileObservation::unsafe_line(HardeningCheck::SecretNetrc, number, detail));
            }
            _ => {}
        }
        // A password may read like a keyword.
        before = if matches!(before, "machine" | "login" | "password" | "account") { "" } else { word };
        if found.len() == MAX_OBSERVATIONS {
            break;
        }
    }
    found
}

/// The configuration of Docker (`config.json`), in its current and its first form.
fn docker_config(text: &str) -> Vec<FileObservation> {
    #[derive(Deserialize)]
    struct DockerConfig {
        auths: BTreeMap<String, RegistryAuth>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RegistryAuth {
        auth: String,
        password: String,
        identitytoken: String,
        registrytoken: String,
    }
    // If a key occurs twice in JSON, the last one counts, as in BTreeMap.
    let current = serde_json::from_str::<DockerConfig>(text).map(|config| config.auths);
    let first = || serde_json::from_str::<BTreeMap<String, RegistryAuth>>(text);
    let Ok(auths) = current.or_else(|_| first()) else { return Vec::new() };
    let has_secret = |auth: &RegistryAuth| {
        let RegistryAuth { auth, password, identitytoken, registrytoken } = auth;
        [auth, password, identitytoken, registrytoken].into_iter().any(|secret| !is_placeholder(secret))
    };
    let found = auths.iter().filter(|(_, auth)| has_secret(auth)).map(|(registry, _)| {
        FileObservation::unsafe_file(HardeningCheck::SecretDockerConfig, format!("credentials for {registry}"))
    });
    found.take(MAX_OBSERVATIONS).collect()
}

/// Credentials of a user of Google Cloud. Those of a service account contain a private key.
fn gcp(text: &str) -> Vec<FileObservation> {
    #[derive(Deserialize)]
    struct UserCredentials {
        refresh_token: String,
    }
    let found = serde_json::from_str::<UserCredentials>(text).ok().filter(|user| !is_placeholder(&user.refresh_token));
    let detail = "a refresh token of a user";
    found.map(|_| FileObservation::unsafe_file(HardeningCheck::SecretGcp, detail)).into_iter().collect()
}
