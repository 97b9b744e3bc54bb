//! What differs between two configurations.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::show::{compared, inline};
use crate::markup::{Node, Problems, Value, read_toml};
use crate::upstream;

/// The settings that a running gate applies: keys, and tables that end with a dot.
const LIVE: [&str; 15] = [
    "default_upstream",
    "gate.mode",
    "limits.",
    "log.filter",
    "policy.dir",
    "shutdown_delay",
    "shutdown_grace",
    "trust.authority.",
    "trust.default_authorities",
    "trust.first_use",
    "trust.notary_root",
    "trust.trusted_roots",
    "upstream.",
    "va.fixable_only",
    "va.ignore_files",
];
/// The settings of certificates. They are live as long as the same listeners use TLS.
pub(super) const TLS: &str = "listener.tls.";
const UPSTREAM: &str = "upstream.";

impl Config {
    /// Whether another configuration has the same effect, including the keys, roots and certificate authorities that were
    /// read from files.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        let same_authorities = self.places.authorities() == other.places.authorities();
        compared(self) == compared(other) && self.policy == other.policy && same_authorities
    }

    /// The settings that differ in another configuration, and that a running gate cannot change: `cache.max_size`. Keys
    /// in lists have no position: `listener.address`.
    pub(crate) fn fixed_changes(&self, other: &Self) -> Vec<String> {
        self.changes(other).into_iter().filter_map(|(key, is_live)| (!is_live).then_some(key)).collect()
    }

    /// The settings that differ in another configuration, and that a running gate applies: `gate.mode`. An upstream is
    /// one setting: `upstream docker.io`, unless it is [removed](Self::removed_upstreams). `trust` stands for keys and
    /// roots whose files have the same names.
    pub(crate) fn live_changes(&self, other: &Self) -> Vec<String> {
        let live = self.changes(other).into_iter().filter_map(|(key, is_live)| is_live.then_some(key));
        let mut keys: Vec<String> = live.filter(|key| !key.starts_with(UPSTREAM)).collect();
        // Only the content of files has changed that settings name.
        if keys.is_empty() && self.policy != other.policy {
            keys.push("trust".to_owned());
        }
        let removed = self.removed_upstreams(other);
        let upstreams = self.changed_upstreams(other).into_iter().filter(|host| !removed.contains(host));
        keys.extend(upstreams.map(|host| format!("upstream {host}")));
        keys
    }

    /// The hosts of the upstreams that another configuration does not have.
    pub(crate) fn removed_upstreams<'a>(&'a self, other: &Self) -> BTreeSet<&'a str> {
        let is_gone = |host: &&str| other.upstreams.iter().all(|upstream| upstream.host.as_str() != *host);
        self.upstreams.iter().map(|upstream| upstream.host.as_str()).filter(is_gone).collect()
    }

    /// The settings that differ, each with whether a running gate applies it.
    fn changes(&self, other: &Self) -> Vec<(String, bool)> {
        let (these, those) = (values(self), values(other));
        let keys: BTreeSet<&String> = these.keys().chain(those.keys()).collect();
        let keeps_tls = self.addresses_with_tls() == other.addresses_with_tls();
        let differing = keys.into_iter().filter(|key| these.get(*key) != those.get(*key));
        differing.map(|key| (key.clone(), is_live(key) || keeps_tls && key.starts_with(TLS))).collect()
    }

    /// The hosts of the upstreams that are in one of the configurations only, or differ.
    fn changed_upstreams<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a str> {
        let is_missing = |upstream: &&upstream::Config, other: &Self| !other.upstreams.contains(upstream);
        let gone = self.upstreams.iter().filter(|upstream| is_missing(upstream, other));
        let new = other.upstreams.iter().filter(|upstream| is_missing(upstream, self));
        gone.chain(new).map(|upstream| upstream.host.as_str()).collect()
    }

    fn addresses_with_tls(&self) -> Vec<&str> {
        let with_tls = self.listeners.iter().filter(|listener| listener.tls.is_some());
        with_tls.map(|listener| &*listener.address).collect()
    }
}

/// Whether a running gate applies a changed setting.
pub(super) fn is_live(key: &str) -> bool {
    LIVE.into_iter().any(|live| key == live || live.ends_with('.') && key.starts_with(live))
}

/// All settings of a configuration as text, by key, and what identifies the content of certificate authorities. They
/// contain secrets.
fn values(config: &Config) -> BTreeMap<String, Vec<String>> {
    let problems = Problems::default();
    let mut values = BTreeMap::new();
    // It was written by `compared`, so it can be read.
    if let Some(tree) = read_toml(&compared(config), problems.file("shown"), &problems) {
        add(&tree, String::new(), &mut values);
    }
    for (key, content) in config.places.authorities() {
        let content = content.map(|content| content.to_string()).unwrap_or_default();
        values.entry(without_positions(key)).or_default().push(content);
    }
    values
}

/// `upstream.ca` for `upstream[0].ca`.
fn without_positions(key: &str) -> String {
    let parts = key.split('.').map(|part| part.split('[').next().unwrap_or_default());
    parts.collect::<Vec<_>>().join(".")
}

fn add(node: &Node, key: String, values: &mut BTreeMap<String, Vec<String>>) {
    match &node.value {
        Value::Map(members) => {
            for member in members {
                let inner = if key.is_empty() { member.key.clone() } else { format!("{key}.{}", member.key) };
                add(&member.node, inner, values);
            }
        }
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => {
            items.iter().for_each(|item| add(item, key.clone(), values));
        }
        _ => values.entry(key).or_default().push(inline(node)),
    }
}
