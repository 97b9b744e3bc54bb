//! Docker's `config.json` and podman's `auth.json`: finds the entry for a registry.
//!
//! `docker login`, podman, kaniko, Kubernetes and people write the same registry in many ways: with a scheme, followed
//! by `/v1/` or `/v2/`, in capitals. All are interpreted as in Docker (its `ConvertToHostname`): the scheme and
//! everything after the host are removed. Without a scheme, the part after the host may be podman's namespace or
//! repository (containers-auth.json(5)); the longest match takes precedence.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::oci::{DOCKER_HUB_NAMES, Host};
use crate::upstream::config::Config;

/// The parsed file. `null` counts as absent, and only the entry that is used must be valid: the others belong to other
/// registries.
pub(in crate::upstream) struct DockerConfig(Map<String, Value>);

/// An entry in `auths`.
#[derive(Default, Deserialize)]
pub(in crate::upstream) struct DockerAuth {
    pub(in crate::upstream) auth: Option<String>,
    pub(in crate::upstream) identitytoken: Option<String>,
    pub(in crate::upstream) username: Option<String>,
    pub(in crate::upstream) password: Option<String>,
}

/// The file's content for a repository of an upstream.
#[derive(Default)]
pub(in crate::upstream) struct DockerEntries<'a> {
    /// The credential helper for this registry only.
    pub(in crate::upstream) own_helper: Option<&'a Value>,
    /// The matching entries, the most specific first.
    pub(in crate::upstream) entries: Vec<&'a Value>,
    /// The credential helper for all other registries.
    pub(in crate::upstream) store: Option<&'a str>,
}

impl DockerConfig {
    /// Parses the file, which some editors start with a byte order mark.
    pub(in crate::upstream) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)).map(Self)
    }

    /// The entries by registry. The old `.dockercfg` has nothing else.
    fn auths(&self) -> impl Iterator<Item = (&String, &Value)> {
        let auths = self.0.get("auths").map_or(Some(&self.0), Value::as_object);
        auths.into_iter().flatten()
    }

    fn helpers(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get("credHelpers").and_then(Value::as_object).into_iter().flatten()
    }

    /// The parts of an upstream for which there may be different content: namespaces, repositories, and "" for all
    /// others.
    pub(in crate::upstream) fn parts(&self, upstream: &Config) -> BTreeSet<&str> {
        let names = names(upstream);
        let keys = self.auths().chain(self.helpers()).map(|(text, _)| DockerKey::parse(text));
        keys.filter(|key| names.contains(&key.host)).map(|key| key.path).chain([""]).collect()
    }

    /// The content for a repository or another part of an upstream, under any spelling of its names.
    pub(in crate::upstream) fn find(&self, upstream: &Config, repository: &str) -> DockerEntries<'_> {
        let names = names(upstream);
        let is_said = |value: &&Value| !value.is_null() && value.as_str() != Some("");
        DockerEntries {
            own_helper: fitting(self.helpers(), &names, repository).into_iter().find(is_said),
            entries: fitting(self.auths(), &names, repository).into_iter().filter(is_said).collect(),
            store: self.0.get("credsStore").and_then(Value::as_str).filter(|store| !store.is_empty()),
        }
    }
}

/// The names of the registry in order of precedence: the name used in policies, and the host of its URL.
fn names(upstream: &Config) -> Vec<String> {
    let mut names: Vec<String> =
        [upstream.host.as_str(), &upstream.url].map(|name| DockerKey::parse(name).host).into_iter().collect();
    if upstream.url.starts_with("http://") {
        names.extend(names.clone().into_iter().map(|name| format!("{name}:80")));
    }
    if upstream.host.is_docker_hub() {
        names.extend(DOCKER_HUB_NAMES.map(str::to_owned));
    }
    names
}

/// The values with a matching key, the most specific first; among several spellings, the first in sort order.
fn fitting<'a, T>(all: impl Iterator<Item = (&'a String, &'a T)>, names: &[String], repository: &str) -> Vec<&'a T> {
    let mut found: Vec<_> = all
        .filter_map(|(text, value)| {
            let key = DockerKey::parse(text);
            let name = names.iter().position(|name| *name == key.host)?;
            is_within(repository, key.path).then_some((usize::MAX - key.path.len(), name, text, value))
        })
        .collect();
    found.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    found.into_iter().map(|(.., value)| value).collect()
}

/// Whether a repository equals the path or is below it, by whole components.
fn is_within(repository: &str, path: &str) -> bool {
    path.is_empty() || repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A key in the file.
#[derive(Debug, Eq, PartialEq)]
struct DockerKey<'a> {
    /// In lower case, without a trailing dot and without the default port of the scheme, or of https if there is none.
    host: String,
    /// The namespace or repository; empty for the whole registry.
    path: &'a str,
}

impl<'a> DockerKey<'a> {
    fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let after = |scheme: &str| {
            text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &text[scheme.len()..])
        };
        let by_http = after("http://");
        let bare = by_http.or_else(|| after("https://")).or_else(|| after("//"));
        let (host, path) = bare.unwrap_or(text).split_once('/').unwrap_or((bare.unwrap_or(text), ""));
        let path = path.trim_end_matches('/');
        let is_api = matches!(path, "v1" | "v2" | "v1/users" | "v1/_ping" | "v2/_catalog");
        let host = host.to_ascii_lowercase();
        let port = if by_http.is_some() { ":80" } else { ":443" };
        let host = host.strip_suffix(port).unwrap_or(&host);
        let host = host.strip_suffix('.').unwrap_or(host).to_owned();
        Self { host, path: if bare.is_some() || is_api { "" } else { path } }
    }
}

/// The server name passed to a helper: Docker Hub has a special one.
pub(in crate::upstream) fn server(host: &Host) -> String {
    if host.is_docker_hub() { "https://index.docker.io/v1/".to_owned() } else { host.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_normalised() {
        for (text, host, path) in [
            ("reg.io", "reg.io", ""),
            ("Reg.IO", "reg.io", ""),
            (" reg.io ", "reg.io", ""),
            ("reg.io:5000", "reg.io:5000", ""),
            ("reg.io:443", "reg.io", ""),
            ("https://reg.io", "reg.io", ""),
            ("HTTPS://reg.io/", "reg.io", ""),
            ("http://reg.io", "reg.io", ""),
            ("http://reg.io:80", "reg.io", ""),
            ("reg.io:80", "reg.io:80", ""),
            ("reg.io.", "reg.io", ""),
            ("//reg.io/v2/", "reg.io", ""),
            ("http://reg.io:5000/v2/", "reg.io:5000", ""),
            ("https://reg.io/v1/", "reg.io", ""),
            ("https://reg.io/team/app", "reg.io", ""),
            ("reg.io/", "reg.io", ""),
            ("reg.io/v1/", "reg.io", ""),
            ("reg.io/v2", "reg.io", ""),
            ("reg.io/team", "reg.io", "team"),
            ("reg.io/team/app/", "reg.io", "team/app"),
            ("[::1]:5000", "[::1]:5000", ""),
            ("", "", ""),
            ("/", "", ""),
            ("https://", "", ""),
        ] {
            assert_eq!(DockerKey::parse(text), DockerKey { host: host.to_owned(), path }, "{text:?}");
        }
    }

    /// The passwords found for a repository, in order.
    fn found(keys_are_normalised: &[&str], upstream: &Config, repository: &str) -> Vec<String> {
        let auths: Map<_, _> = keys_are_normalised
            .iter()
            .map(|key| ((*key).to_owned(), serde_json::json!({"auth": null, "password": key})))
            .collect();
        let file = DockerConfig::read(serde_json::json!({ "auths": auths }).to_string().as_bytes()).unwrap();
        let found = file.find(upstream, repository);
        found.entries.into_iter().map(|entry| entry["password"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn registries_without_tls_default_to_port_80() {
        let upstream = Config::new("reg.io".parse().unwrap(), "http://reg.io");
        assert_eq!(found(&["reg.io:80", "reg.io:8080"], &upstream, "app"), ["reg.io:80"]);
        let upstream = Config::new("reg.io".parse().unwrap(), "https://reg.io");
        assert!(found(&["reg.io:80"], &upstream, "app").is_empty());
    }

    #[test]
    fn the_most_specific_entry_goes_first() {
        let upstream = Config::new("reg.io".parse().unwrap(), "https://10.0.0.1:5000/prefix");
        let keys_are_normalised =
            ["10.0.0.1:5000", "reg.io", "reg.io/team", "https://reg.io/", "reg.io/team/app", "other.io"];
        let all = found(&keys_are_normalised, &upstream, "team/app");
        assert_eq!(all, ["reg.io/team/app", "reg.io/team", "https://reg.io/", "reg.io", "10.0.0.1:5000"]);
        assert_eq!(found(&keys_are_normalised, &upstream, "team/other")[0], "reg.io/team");
        assert_eq!(found(&keys_are_normalised, &upstream, "team2/app")[0], "https://reg.io/", "whole components");
        assert!(found(&["reg.io/team/app"], &upstream, "team").is_empty());
        assert!(found(&["reg.io:5000", "xreg.io", "", "/"], &upstream, "team").is_empty());
    }

    #[test]
    fn only_docker_hub_has_its_aliases() {
        let hub = Config::new("docker.io".parse().unwrap(), "https://registry-1.docker.io");
        for key in ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io/v2/"] {
            assert_eq!(found(&[key], &hub, "library/nginx"), [key]);
        }
        let podman = found(&["docker.io", "docker.io/library"], &hub, "library/nginx");
        assert_eq!(podman, ["docker.io/library", "docker.io"]);
        let other = Config::new("reg.io".parse().unwrap(), "https://reg.io");
        assert!(found(&["https://index.docker.io/v1/"], &other, "library/nginx").is_empty());
    }

    #[test]
    fn null_and_empty_entries_are_absent() {
        let upstream = Config::new("reg.io".parse().unwrap(), "https://reg.io");
        for (text, helper, entries, store) in [
            (r#"{}"#, None, 0, None),
            (r#"{"auths": null, "credHelpers": null, "credsStore": null, "HttpHeaders": {}}"#, None, 0, None),
            (r#"{"auths": {"reg.io": null}, "credHelpers": {"reg.io": ""}, "credsStore": ""}"#, None, 0, None),
            (r#"{"auths": {"reg.io": {}}, "credsStore": "all"}"#, None, 1, Some("all")),
            (r#"{"auths": {"reg.io": {"auth": null, "email": 1}}}"#, None, 1, None),
            (r#"{"credHelpers": {"https://REG.io/v2/": "one", "other.io": "two"}}"#, Some("one"), 0, None),
            // Errors in other entries do not affect this registry.
            (r#"{"auths": {"reg.io": {}, "other.io": 7}, "credHelpers": [], "credsStore": {}}"#, None, 1, None),
            (r#"{"auths": [], "credHelpers": {"reg.io": "one", "other.io": 7}}"#, Some("one"), 0, None),
            // The old format.
            ("\u{feff}{\"reg.io\": {}, \"other.io\": {}}", None, 1, None),
        ] {
            let file = DockerConfig::read(text.as_bytes()).unwrap();
            let found = file.find(&upstream, "app");
            let own = found.own_helper.and_then(Value::as_str);
            assert_eq!((own, found.entries.len(), found.store), (helper, entries, store), "{text}");
        }
    }
}
