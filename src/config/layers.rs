//! The layers of a configuration: the file, and over it the environment.
//!
//! The `config` crate decides which layer sets a value. It does not parse the file: it is given the tree of
//! [`crate::markup`], and its decision is applied to that same tree. So the values that are validated are exactly those
//! that the file has, each with its place.

use std::collections::HashMap;

use config::{ConfigError, Environment, Map, Source, Value as Layered, ValueKind};

use crate::markup::{Member, Node, Place, Problems, Value};

/// Variables begin with this: `PULLGATE__GATE__MODE` sets `gate.mode`.
const PREFIX: &str = "PULLGATE";
const SEPARATOR: &str = "__";

/// The file's tree with the values that the environment overrides. The place of such a value is its variable.
///
/// # Errors
/// When the variables cannot be read as settings.
pub(super) fn merge(
    written: &Node,
    environment: HashMap<String, String>,
    problems: &Problems,
) -> Result<Node, ConfigError> {
    let prefix = format!("{PREFIX}{SEPARATOR}");
    let is_near = |name: &&String| {
        let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_'));
        rest.is_some_and(|rest| !rest.starts_with('_') && rest.contains(SEPARATOR))
    };
    for name in environment.keys().filter(is_near) {
        let at = Place::whole(problems.file(&format!("environment variable {name}")));
        let meant = name.replacen('_', SEPARATOR, 1);
        problems.warn(at, "it sets nothing: the names of settings begin with PULLGATE__", format!("write {meant}"));
    }
    let ours: HashMap<_, _> = environment.into_iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
    let path = |name: &str| name[prefix.len()..].to_ascii_lowercase().replace(SEPARATOR, ".");
    let place = |name: &String| Place::whole(problems.file(&format!("environment variable {name}")));
    let variables = ours.keys().map(|name| (path(name), place(name))).collect();
    let source = Environment::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .try_parsing(true)
        .source(Some(ours));
    let built = config::Config::builder().add_source(Written(written.clone())).add_source(source).build()?;
    let merge = Merge { variables };
    Ok(merge.node(Some(written), &built.cache, "").unwrap_or_else(|| written.clone()))
}

/// The file's tree as a source of the `config` crate.
#[derive(Clone, Debug)]
struct Written(Node);

/// What values of the file have as their origin.
const FILE: &str = "the configuration file";

impl Source for Written {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Layered>, ConfigError> {
        Ok(self.0.members().iter().map(|member| (member.key.clone(), layered(&member.node))).collect())
    }
}

fn layered(node: &Node) -> Layered {
    let kind = match &node.value {
        // Which layer a number comes from matters here, not the number: it is read from the tree.
        Value::Null | Value::Float(_) => ValueKind::Nil,
        Value::Bool(flag) => ValueKind::Boolean(*flag),
        Value::Int(number) => ValueKind::I64(*number),
        Value::Text(text) => ValueKind::String(text.clone()),
        Value::List(items) => ValueKind::Array(items.iter().map(layered).collect()),
        Value::Map(members) => {
            ValueKind::Table(members.iter().map(|member| (member.key.clone(), layered(&member.node))).collect())
        }
    };
    Layered::new(Some(&FILE.to_owned()), kind)
}

struct Merge {
    /// The place of the variable that sets a path.
    variables: HashMap<String, Place>,
}

impl Merge {
    /// The value of a path, of which the file has `written`. `None` if the value is the file's but the file does not
    /// have it at this path: `config` reads a key with dots in it as a path, and that is not what is written.
    fn node(&self, written: Option<&Node>, layered: &Layered, path: &str) -> Option<Node> {
        let value = match (&layered.kind, written.map(|node| &node.value)) {
            (ValueKind::Table(all), _) => {
                let members = self.members(written, all, path);
                if members.is_empty() && written.is_none() {
                    return None;
                }
                let at = written.map(|node| node.at).or(members.first().map(|member| member.at));
                return Some(Node { at: at.unwrap_or_default(), value: Value::Map(members) });
            }
            (ValueKind::Array(items), Some(Value::List(own))) => {
                let item = |(at, item)| self.node(own.get(at), item, &format!("{path}[{at}]"));
                Value::List(items.iter().enumerate().filter_map(item).collect())
            }
            _ if layered.origin() == Some(FILE) => return written.cloned(),
            (ValueKind::Boolean(flag), _) => Value::Bool(*flag),
            (ValueKind::I64(number), _) => Value::Int(*number),
            (ValueKind::String(text), _) => Value::Text(text.clone()),
            (ValueKind::Float(number), _) => Value::Float(*number),
            _ => Value::Float(f64::NAN),
        };
        let variable = self.variables.get(path).copied();
        Some(Node { at: variable.or(written.map(|node| node.at)).unwrap_or_default(), value })
    }

    /// The members that the file has, in its order, and then those that only the environment has.
    fn members(&self, written: Option<&Node>, layered: &Map<String, Layered>, path: &str) -> Vec<Member> {
        let of = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let own = written.map_or(&[][..], Node::members);
        let overridden = own.iter().map(|member| {
            let node =
                layered.get(&member.key).and_then(|value| self.node(Some(&member.node), value, &of(&member.key)));
            let node = node.unwrap_or_else(|| member.node.clone());
            let at = self.variables.get(&of(&member.key)).copied().unwrap_or(member.at);
            Member { at, node, ..member.clone() }
        });
        let mut added: Vec<_> =
            layered.iter().filter(|(key, _)| own.iter().all(|member| member.key != **key)).collect();
        added.sort_by_key(|(key, _)| *key);
        let added = added.into_iter().filter_map(|(key, value)| {
            let node = self.node(None, value, &of(key))?;
            Some(Member { key: key.clone(), at: node.at, merge: None, node })
        });
        overridden.chain(added).collect()
    }
}
