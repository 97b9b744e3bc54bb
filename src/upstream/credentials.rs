//! Credentials from where they are kept, read anew for each token.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::config::{Auth, Config};
use crate::oci::Host;

/// How long a credential helper may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer of a helper, and the largest `config.json`, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;
/// The user name under which helpers and Docker hand out a refresh token.
const TOKEN_USER: &str = "<token>";

/// What proves who asks. Never printed.
#[derive(Clone, Eq, PartialEq)]
pub(super) enum Credentials {
    IdentityToken(String),
    Password { username: String, password: String },
}

/// The credentials of an upstream; `None` where it has none.
///
/// # Errors
/// One line that says where they should be and what is wrong there, and never what they are.
pub(super) async fn load(auth: &Auth, config: &Config) -> Result<Option<Credentials>, String> {
    let password =
        |username: &str, password: String| Some(Credentials::Password { username: username.to_owned(), password });
    match auth {
        Auth::Anonymous => Ok(None),
        Auth::Basic { username, password: secret } => Ok(password(username, secret.read()?)),
        Auth::Iam { api_key } => Ok(password("iamapikey", api_key.read()?)),
        Auth::Helper { program } => helper(program, &config.host).await.map(Some),
        Auth::DockerConfig { file } => docker_config(file, config).await,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, DockerAuth>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct DockerAuth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
    username: Option<String>,
    password: Option<String>,
}

async fn docker_config(file: &Path, upstream: &Config) -> Result<Option<Credentials>, String> {
    let host = &upstream.host;
    let wrong = |what: String| format!("{}: {what}", file.display());
    let text = read_file(file).await.map_err(|error| wrong(error.to_string()))?;
    // The parser's own words could quote what is in the file.
    let config: DockerConfig = serde_json::from_slice(&text).map_err(|error| {
        wrong(format!("not a Docker configuration, line {} column {}", error.line(), error.column()))
    })?;
    let names = docker_names(upstream);
    if let Some(name) = names.iter().find_map(|name| config.cred_helpers.get(name)) {
        return helper(name, host).await.map(Some);
    }
    let entry = names.iter().find_map(|name| config.auths.get(name));
    match entry.and_then(|entry| entry_credentials(entry).transpose()) {
        Some(found) => found.map(Some).map_err(wrong),
        None => match &config.creds_store {
            Some(name) => helper(name, host).await.map(Some),
            None => Err(wrong(format!("has no entry for {host}"))),
        },
    }
}

async fn read_file(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    tokio::fs::File::open(file).await?.take(MAX_ANSWER).read_to_end(&mut text).await?;
    Ok(text)
}

/// The keys under which Docker keeps a registry's entry: by its name here, and by the address that it is asked at.
fn docker_names(upstream: &Config) -> Vec<String> {
    let authority = upstream.url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    let of = |host: &str| {
        [host.to_owned(), format!("https://{host}"), format!("https://{host}/v2/"), format!("https://{host}/v1/")]
    };
    let mut names: Vec<String> = [upstream.host.as_str(), authority].into_iter().flat_map(of).collect();
    if upstream.host.is_docker_hub() {
        names.extend(["https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"].map(str::to_owned));
    }
    names
}

fn entry_credentials(entry: &DockerAuth) -> Result<Option<Credentials>, String> {
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credentials::IdentityToken(entry.identitytoken.clone())));
    }
    if let (Some(username), Some(password)) = (&entry.username, &entry.password) {
        return Ok(Some(Credentials::Password { username: username.clone(), password: password.clone() }));
    }
    if entry.auth.is_empty() {
        return Ok(None);
    }
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair =
        decoded.and_then(|text| text.split_once(':').map(|(u, p)| (u.to_owned(), p.trim_end_matches('\0').to_owned())));
    let (username, password) = pair.ok_or("an `auth` entry is not base64 of user:password")?;
    Ok(Some(Credentials::Password { username, password }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Docker's credential helper protocol: `get`, the server on standard input, JSON on standard output.
async fn helper(name: &str, host: &Host) -> Result<Credentials, String> {
    let program = if name.contains('/') { name.to_owned() } else { format!("docker-credential-{name}") };
    let server = if host.is_docker_hub() { "https://index.docker.io/v1/".to_owned() } else { host.to_string() };
    let answered = tokio::time::timeout(HELPER_TIMEOUT, run(&program, &server)).await;
    let output = answered
        .map_err(|_| format!("{program}: no answer within 10 s"))?
        .map_err(|error| format!("{program}: {error}"))?;
    let answer: HelperAnswer =
        serde_json::from_slice(&output).map_err(|_| format!("{program}: gave no credentials for {host}"))?;
    Ok(if answer.username == TOKEN_USER {
        Credentials::IdentityToken(answer.secret)
    } else {
        Credentials::Password { username: answer.username, password: answer.secret }
    })
}

async fn run(program: &str, server: &str) -> std::io::Result<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that asks for nothing may have closed it.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut output).await?;
    }
    match child.wait().await?.success() {
        true => Ok(output),
        // What it wrote may hold anything, so it is not repeated.
        false => Err(std::io::Error::other("it failed; run it by hand to see why")),
    }
}
