//! Docker's `config.json` and podman's `auth.json`: which entry is a registry's.
//!
//! `docker login`, podman, kaniko, Kubernetes and people write the same registry in many ways: with a scheme, with
//! `/v1/` or `/v2/` behind it, in capitals. All of them are read as Docker reads them (its `ConvertToHostname`): the
//! scheme goes, and what follows the host. Without a scheme, what follows the host may be podman's namespace or
//! repository (containers-auth.json(5)); the longest that fits goes first.

use std::collections::HashMap;

use serde::Deserialize;

use super::config::Config;
use crate::oci::{Host, Repository};

/// The names of Docker Hub, beside its canonical one.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The file. What is `null` counts as absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DockerConfig {
    auths: Option<HashMap<String, Option<DockerAuth>>>,
    cred_helpers: Option<HashMap<String, Option<String>>>,
    creds_store: Option<String>,
}

/// One entry of `auths`.
#[derive(Default, Deserialize)]
pub(super) struct DockerAuth {
    pub(super) auth: Option<String>,
    pub(super) identitytoken: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// What the file says about a repository of an upstream.
#[derive(Default)]
pub(super) struct Found<'a> {
    /// The credential helper of this registry alone.
    pub(super) own_helper: Option<&'a str>,
    /// The entries that fit, the most specific first.
    pub(super) entries: Vec<&'a DockerAuth>,
    /// The credential helper for everything else.
    pub(super) store: Option<&'a str>,
}

impl DockerConfig {
    /// What there is for a repository of an upstream, under any spelling of its names.
    pub(super) fn find(&self, upstream: &Config, repository: &Repository) -> Found<'_> {
        let names = names(upstream);
        let said = |helper: &'_ &str| !helper.is_empty();
        let helpers = fitting(self.cred_helpers.iter().flatten(), &names, repository);
        Found {
            own_helper: helpers.into_iter().filter_map(Option::as_deref).find(said),
            entries: fitting(self.auths.iter().flatten(), &names, repository).into_iter().flatten().collect(),
            store: self.creds_store.as_deref().filter(said),
        }
    }
}

/// The registry's own names, in the order in which they count: as policies call it, and where it is asked.
fn names(upstream: &Config) -> Vec<String> {
    let address = upstream.url.split_once("://").map_or(&*upstream.url, |(_, rest)| rest);
    let mut names: Vec<String> =
        [upstream.host.as_str(), address].map(|name| Key::parse(name).host).into_iter().collect();
    if upstream.host.is_docker_hub() {
        names.extend(DOCKER_HUB.map(str::to_owned));
    }
    names
}

/// The values whose key fits, the most specific first; of several spellings the one that sorts first.
fn fitting<'a, T>(
    all: impl Iterator<Item = (&'a String, &'a T)>,
    names: &[String],
    repository: &Repository,
) -> Vec<&'a T> {
    let mut found: Vec<_> = all
        .filter_map(|(text, value)| {
            let key = Key::parse(text);
            let name = names.iter().position(|name| *name == key.host)?;
            is_within(repository.as_str(), key.path).then_some((usize::MAX - key.path.len(), name, text, value))
        })
        .collect();
    found.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    found.into_iter().map(|(.., value)| value).collect()
}

/// Whether a repository is the path or below it, by whole components.
fn is_within(repository: &str, path: &str) -> bool {
    path.is_empty() || repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A key of the file.
#[derive(Debug, Eq, PartialEq)]
struct Key<'a> {
    /// In lower case, without the port that https means anyway.
    host: String,
    /// The namespace or repository, empty for all of the registry.
    path: &'a str,
}

impl<'a> Key<'a> {
    fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let bare = ["https://", "http://"].iter().find_map(|scheme| {
            text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &text[scheme.len()..])
        });
        let (host, path) = bare.unwrap_or(text).split_once('/').unwrap_or((bare.unwrap_or(text), ""));
        let path = path.trim_end_matches('/');
        let is_api = matches!(path, "v1" | "v2" | "v1/users" | "v1/_ping" | "v2/_catalog");
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix(":443").map(str::to_owned).unwrap_or(host);
        Self { host, path: if bare.is_some() || is_api { "" } else { path } }
    }
}

/// What a helper is asked for: Docker Hub has a name of its own there.
pub(super) fn server(host: &Host) -> String {
    if host.is_docker_hub() { "https://index.docker.io/v1/".to_owned() } else { host.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (text, host, path) in [
            ("reg.io", "reg.io", ""),
            ("Reg.IO", "reg.io", ""),
            (" reg.io ", "reg.io", ""),
            ("reg.io:5000", "reg.io:5000", ""),
            ("reg.io:443", "reg.io", ""),
            ("https://reg.io", "reg.io", ""),
            ("HTTPS://reg.io/", "reg.io", ""),
            ("http://reg.io", "reg.io", ""),
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
            assert_eq!(Key::parse(text), Key { host: host.to_owned(), path }, "{text:?}");
        }
    }

    /// The passwords that are found for a repository, in their order.
    fn found(keys: &[&str], upstream: &Config, repository: &str) -> Vec<String> {
        let auths: serde_json::Map<_, _> =
            keys.iter().map(|key| ((*key).to_owned(), serde_json::json!({"auth": null, "password": key}))).collect();
        let file: DockerConfig = serde_json::from_value(serde_json::json!({ "auths": auths })).unwrap();
        let found = file.find(upstream, &repository.parse().unwrap());
        found.entries.into_iter().map(|entry| entry.password.clone().unwrap()).collect()
    }

    #[test]
    fn the_most_specific_entry_goes_first() {
        let upstream = Config::new("reg.io".parse().unwrap(), "https://10.0.0.1:5000/prefix");
        let keys = ["10.0.0.1:5000", "reg.io", "reg.io/team", "https://reg.io/", "reg.io/team/app", "other.io"];
        let all = found(&keys, &upstream, "team/app");
        assert_eq!(all, ["reg.io/team/app", "reg.io/team", "https://reg.io/", "reg.io", "10.0.0.1:5000"]);
        assert_eq!(found(&keys, &upstream, "team/other")[0], "reg.io/team");
        assert_eq!(found(&keys, &upstream, "team2/app")[0], "https://reg.io/", "whole components");
        assert!(found(&["reg.io/team/app"], &upstream, "team").is_empty());
        assert!(found(&["reg.io:5000", "xreg.io", "", "/"], &upstream, "team").is_empty());
    }

    #[test]
    fn docker_hub_has_many_names_and_nobody_else_has_them() {
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
    fn null_and_empty_are_absent() {
        let upstream = Config::new("reg.io".parse().unwrap(), "https://reg.io");
        let repository = "app".parse().unwrap();
        for (text, helper, entries, store) in [
            (r#"{}"#, None, 0, None),
            (r#"{"auths": null, "credHelpers": null, "credsStore": null, "HttpHeaders": {}}"#, None, 0, None),
            (r#"{"auths": {"reg.io": null}, "credHelpers": {"reg.io": ""}, "credsStore": ""}"#, None, 0, None),
            (r#"{"auths": {"reg.io": {}}, "credsStore": "all"}"#, None, 1, Some("all")),
            (r#"{"auths": {"reg.io": {"auth": null, "email": 1}}}"#, None, 1, None),
            (r#"{"credHelpers": {"https://REG.io/v2/": "one", "other.io": "two"}}"#, Some("one"), 0, None),
        ] {
            let file: DockerConfig = serde_json::from_str(text).unwrap();
            let found = file.find(&upstream, &repository);
            assert_eq!((found.own_helper, found.entries.len(), found.store), (helper, entries, store), "{text}");
        }
    }
}
