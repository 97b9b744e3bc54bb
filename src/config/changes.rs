//! What differs between two configurations.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::show::inline;
use crate::markup::{Node, Problems, Value, read_toml};

/// The settings that a running gate takes into use: keys, and tables that end with a dot.
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
const TLS: &str = "listener.tls.";

impl Config {
    /// Whether another configuration has the same effect, including the keys and roots that were read from files.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        self.show() == other.show() && self.policy == other.policy
    }

    /// The settings that differ in another configuration, and that a running gate cannot change: `cache.max_size`. Keys in
    /// lists have no position: `listener.address`.
    pub(crate) fn fixed_changes(&self, other: &Self) -> Vec<String> {
        let (these, those) = (values(self), values(other));
        let keys: BTreeSet<&String> = these.keys().chain(those.keys()).collect();
        let tls = (self.addresses_with_tls() == other.addresses_with_tls()).then_some(TLS);
        let live = || LIVE.into_iter().chain(tls);
        let is_live = |key: &str| live().any(|live| key == live || live.ends_with('.') && key.starts_with(live));
        let differing = keys.into_iter().filter(|key| these.get(*key) != those.get(*key) && !is_live(key));
        differing.cloned().collect()
    }

    fn addresses_with_tls(&self) -> Vec<&str> {
        let with_tls = self.listeners.iter().filter(|listener| listener.tls.is_some());
        with_tls.map(|listener| &*listener.address).collect()
    }
}

/// All settings of a configuration as text, by key.
fn values(config: &Config) -> BTreeMap<String, Vec<String>> {
    let problems = Problems::default();
    let mut values = BTreeMap::new();
    // It was written by `show`, so it can be read.
    if let Some(tree) = read_toml(&config.show(), problems.file("shown"), &problems) {
        add(&tree, String::new(), &mut values);
    }
    values
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
