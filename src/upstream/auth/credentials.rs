//! Reads credentials from their source, again for each token.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::docker_config::{DockerAuth, DockerConfig, DockerEntries, server};
use crate::oci::{Host, Repository};
use crate::runtime::{load_plain_file, read_plain_file};
use crate::upstream::config::{Auth, Config};

/// The time limit for a credential helper.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum size of a helper's output, and of `config.json`, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;
/// The user name with which helpers and Docker return a refresh token.
const TOKEN_USER: &str = "<token>";

/// Kubernetes accepts `auth` with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials. Never printed.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::upstream) enum RegistryCredentials {
    IdentityToken(String),
    Password { username: String, password: String },
}

/// The credentials of an upstream for one of its repositories; `None` if it has none.
///
/// # Errors
/// One line that names the source and the problem, but never the content.
pub(in crate::upstream) async fn load(
    config: &Config,
    repository: &Repository,
) -> Result<Option<RegistryCredentials>, String> {
    let password = |username: &str, password: String| {
        Some(RegistryCredentials::Password { username: username.to_owned(), password })
    };
    match &config.auth {
        Auth::Anonymous => Ok(None),
        Auth::Basic { username, password: secret } => Ok(password(username, secret.read()?)),
        Auth::Iam { api_key } => Ok(password("iamapikey", api_key.read_line()?)),
        Auth::Helper { program } => helper(program, &config.host).await.map(Some),
        Auth::DockerConfig { file } => docker_config(file, config, repository).await.map(Some),
    }
}

/// Whether an upstream has credentials. Helpers must be there, and are not run: they may ask a service.
///
/// # Errors
/// One line that names the source and the problem, but never the content.
pub(in crate::upstream) async fn check(config: &Config) -> Result<(), String> {
    match &config.auth {
        Auth::Anonymous => Ok(()),
        Auth::Basic { password, .. } => password.read().map(drop),
        Auth::Iam { api_key } => api_key.read_line().map(drop),
        Auth::Helper { program } => find_helper(program).map(drop),
        Auth::DockerConfig { file } => check_entries(&read_docker_config(file).await?, file, config),
    }
}

async fn read_docker_config(file: &Path) -> Result<DockerConfig, String> {
    let wrong = |what: String| format!("{}: {what}", file.display());
    let text = read_file(file).await.map_err(|error| wrong(error.to_string()))?;
    parse(&text).map_err(wrong)
}

/// Checks that a Docker configuration can be read and has credentials for the registry, at least for one namespace of
/// it, and that everything in it for this registry can be used. Credential helpers are not run.
///
/// # Errors
/// One line that names the file and the problem, but never the content.
pub(in crate::upstream) fn check_docker_config(file: &Path, upstream: &Config) -> Result<(), String> {
    let wrong = |what: String| format!("{}: {what}", file.display());
    let text = read_plain_file(file, MAX_ANSWER).map_err(|error| wrong(error.to_string()))?;
    check_entries(&parse(&text).map_err(wrong)?, file, upstream)
}

fn check_entries(config: &DockerConfig, file: &Path, upstream: &Config) -> Result<(), String> {
    let wrong = |what: String| format!("{}: {what}", file.display());
    let mut has_any = false;
    for part in config.parts(upstream) {
        match choose(&config.find(upstream, part), &upstream.host).map_err(wrong)? {
            Some(DockerChoice::Helper(name)) => drop(find_helper(name).map_err(wrong)?),
            Some(DockerChoice::Credentials(_)) => {}
            None => continue,
        }
        has_any = true;
    }
    if has_any { Ok(()) } else { Err(wrong(no_entry(&upstream.host))) }
}

fn no_entry(host: &Host) -> String {
    format!("has no entry for {host}")
}

fn parse(text: &[u8]) -> Result<DockerConfig, String> {
    // The parser's own error message could quote the file.
    DockerConfig::read(text)
        .map_err(|error| format!("not a Docker configuration, line {} column {}", error.line(), error.column()))
}

/// The program of a credential helper, searched for like any command.
///
/// # Errors
/// It is not there, or cannot be executed.
pub(in crate::upstream) fn find_helper(name: &str) -> Result<PathBuf, String> {
    let program = program(name);
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = if name.contains('/') {
        vec![program.clone().into()]
    } else {
        std::env::split_paths(&folders).map(|folder| folder.join(&program)).collect()
    };
    let missing = || format!("{program}: no such executable program");
    places.into_iter().find(is_program).ok_or_else(missing)
}

fn program(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("docker-credential-{name}") }
}

async fn docker_config(file: &Path, upstream: &Config, repository: &Repository) -> Result<RegistryCredentials, String> {
    let host = &upstream.host;
    let wrong = |what: String| format!("{}: {what}", file.display());
    let config = read_docker_config(file).await?;
    match choose(&config.find(upstream, repository.as_str()), host).map_err(wrong)? {
        Some(DockerChoice::Helper(name)) => helper(name, host).await,
        Some(DockerChoice::Credentials(credentials)) => Ok(credentials),
        None => Err(wrong(no_entry(host))),
    }
}

/// Where a Docker configuration has the credentials for a repository.
enum DockerChoice<'a> {
    /// In the credential helper of this name.
    Helper(&'a str),
    /// In an entry.
    Credentials(RegistryCredentials),
}

fn choose<'a>(found: &DockerEntries<'a>, host: &Host) -> Result<Option<DockerChoice<'a>>, String> {
    if let Some(name) = found.own_helper {
        let name = name.as_str().ok_or_else(|| format!("the credential helper of {host} must be a string"))?;
        return Ok(Some(DockerChoice::Helper(name)));
    }
    match found.entries.iter().find_map(|entry| entry_credentials(entry).transpose()) {
        Some(credentials) => Ok(Some(DockerChoice::Credentials(credentials?))),
        None => Ok(found.store.map(DockerChoice::Helper)),
    }
}

async fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    load_plain_file(file, MAX_ANSWER).await
}

fn entry_credentials(entry: &Value) -> Result<Option<RegistryCredentials>, String> {
    // The parser's own error message could quote the entry.
    let entry = DockerAuth::deserialize(entry).map_err(|_| "an entry of this registry is malformed")?;
    if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(RegistryCredentials::IdentityToken(token.clone())));
    }
    let plain = entry.username.as_ref().zip(entry.password.as_ref());
    if let Some((username, password)) =
        plain.filter(|(username, password)| !(username.is_empty() && password.is_empty()))
    {
        return Ok(Some(RegistryCredentials::Password { username: username.clone(), password: password.clone() }));
    }
    let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
    // Go ignores the line breaks that `base64` writes.
    let auth: String = auth.split_ascii_whitespace().collect();
    let decoded = LENIENT.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair =
        decoded.and_then(|text| text.split_once(':').map(|(u, p)| (u.to_owned(), p.trim_end_matches('\0').to_owned())));
    let (username, password) = pair.ok_or("an `auth` entry is not base64 of user:password")?;
    Ok(Some(RegistryCredentials::Password { username, password }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Docker's credential helper protocol: `get`, the server on standard input, JSON on standard output.
async fn helper(name: &str, host: &Host) -> Result<RegistryCredentials, String> {
    let program = program(name);
    let answered = tokio::time::timeout(HELPER_TIMEOUT, run(&program, &server(host))).await;
    let output = answered
        .map_err(|_| format!("{program}: no answer within 10 s"))?
        .map_err(|error| format!("{program}: {error}"))?;
    let answer: HelperAnswer =
        serde_json::from_slice(&output).map_err(|_| format!("{program}: returned no credentials for {host}"))?;
    Ok(if answer.username == TOKEN_USER {
        RegistryCredentials::IdentityToken(answer.secret)
    } else {
        RegistryCredentials::Password { username: answer.username, password: answer.secret }
    })
}

async fn run(program: &str, server: &str) -> io::Result<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input may have closed it.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut output).await?;
    }
    match child.wait().await?.success() {
        true => Ok(output),
        // Its output may contain anything, so it is not repeated.
        false => Err(io::Error::other("it failed; run it by hand to find out why")),
    }
}
