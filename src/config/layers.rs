//! The layers of a configuration: the file, and over it the environment.
//!
//! The `config` crate decides which layer sets a value. It does not parse the file: it is given the tree of
//! [`crate::markup`], and its decision is applied to that same tree. So the values that are validated are exactly those
//! that the file has, each with its place.

use std::collections::HashMap;
use std::ffi::OsString;

use config::{ConfigError, Environment, Map, Source, Value as Layered, ValueKind};

use super::reader::OUTSIDE;
use crate::markup::{Member, Node, Place, Problem, ProblemSeverity, Problems, Value, nearest};

/// Variables begin with this: `PULLGATE__GATE__MODE` sets `gate.mode`.
const PREFIX: &str = "PULLGATE";
const SEPARATOR: &str = "__";
/// What follows `PULLGATE_` in the variables of commands.
pub(crate) const COMMANDS: [&str; 3] = ["CONFIG", "SERVER", "TOKEN_FILE"];
/// The tables with settings that variables can set, the inner ones first.
const TABLES: [&str; 15] = [
    "TRUST_REVOCATION",
    "VA_DATABASE",
    "VA_IBM",
    "ADMIN",
    "AUDIT",
    "CACHE",
    "EVENTS",
    "GATE",
    "LIMITS",
    "LOG",
    "POLICY",
    "PREFETCH",
    "TRACING",
    "TRUST",
    "VA",
];

/// The variables whose names are text. Those that are no settings have no value here: what they contain does not matter,
/// and need not be text either.
///
/// # Errors
/// The settings that are not text.
pub(super) fn texts(environment: Vec<(OsString, OsString)>) -> Result<HashMap<String, String>, Vec<Problem>> {
    let prefix = format!("{PREFIX}{SEPARATOR}");
    let (mut texts, mut problems) = (HashMap::new(), Vec::new());
    for (name, value) in environment {
        let is_setting = name.as_encoded_bytes().starts_with(prefix.as_bytes());
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) if is_setting => _ = texts.insert(name, value),
            (Ok(name), _) if !is_setting => _ = texts.insert(name, String::new()),
            (Err(_), _) if !is_setting => {}
            (name, _) => {
                let name = name.unwrap_or_else(|name| name.to_string_lossy().into_owned());
                let file = format!("environment variable {name}");
                let hint = "write its name and its value in UTF-8, or unset it";
                problems.push(Problem::of_file(ProblemSeverity::Error, file, "it is not UTF-8 text", Some(hint)));
            }
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

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
    for (name, meant) in environment.keys().filter_map(|name| Some((name, meant(name)?))) {
        let at = Place::whole(problems.file(&format!("environment variable {name}")));
        let message =
            "it sets nothing: the parts of a setting's name are joined by two underscores, as in PULLGATE__GATE__MODE";
        problems.warn(at, message, format!("write {meant}"));
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

/// The variable that was meant by one that sets nothing; `None` if it is one of a command, or may belong to something
/// else.
fn meant(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix('_').filter(|rest| !rest.starts_with('_'))?;
    if rest.contains(SEPARATOR) {
        return Some(format!("{PREFIX}{SEPARATOR}{rest}"));
    }
    // Kubernetes makes variables for a service that is called pullgate, or pullgate-admin.
    let of_service = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"];
    if COMMANDS.contains(&rest) || rest.ends_with("_PORT") || of_service.iter().any(|part| rest.contains(part)) {
        return None;
    }
    let of_table = |table: &&str| {
        let key = rest.strip_prefix(*table)?.strip_prefix('_')?;
        Some(format!("{PREFIX}{SEPARATOR}{}{SEPARATOR}{key}", table.replace('_', SEPARATOR)))
    };
    let is_outside = OUTSIDE.iter().any(|key| rest.eq_ignore_ascii_case(key));
    let setting = is_outside.then(|| format!("{PREFIX}{SEPARATOR}{rest}")).or_else(|| TABLES.iter().find_map(of_table));
    setting.or_else(|| nearest(rest, &COMMANDS).map(|own| format!("{PREFIX}_{own}")))
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
        // Only the layer that a number comes from matters here; the number itself is read from the tree.
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
                let at = self.below(written, path).or(written.map(|node| node.at));
                let at = at.or(members.first().map(|member| member.at));
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

    /// The place of a variable that sets a table where the file has something else, such as a list; the mistake is
    /// reported there.
    fn below(&self, written: Option<&Node>, path: &str) -> Option<Place> {
        written.filter(|node| !matches!(node.value, Value::Map(_)))?;
        let is_below = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        let below = self.variables.iter().filter(|(name, _)| is_below(name));
        below.min_by_key(|(name, _)| *name).map(|(_, place)| *place)
    }

    /// The members that the file has, in its order, and then those that only the environment has.
    fn members(&self, written: Option<&Node>, layered: &Map<String, Layered>, path: &str) -> Vec<Member> {
        let of = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let own = written.map_or(&[][..], Node::members);
        let overridden = own.iter().map(|member| {
            let node =
                layered.get(&member.key).and_then(|value| self.node(Some(&member.node), value, &of(&member.key)));
            let node = node.unwrap_or_else(|| member.node.clone());
            let path = of(&member.key);
            let at = self.variables.get(&path).copied().or_else(|| self.below(Some(&member.node), &path));
            Member { at: at.unwrap_or(member.at), node, ..member.clone() }
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    /// Any program may have left a variable that is not text, and `cd` into such a directory makes one.
    #[test]
    fn only_settings_have_to_be_text() {
        let text = |text: &str| OsString::from(text);
        let junk = |start: &str| OsString::from_vec([start.as_bytes(), b"\xe9"].concat());
        let read = |name: OsString, value: OsString| texts(vec![(name, value)]);
        for (name, value) in [("FOO", "x"), ("PULLGATE_CONFIG", "/caf"), ("PULLGATE_GATE_MODE", "x")] {
            assert!(read(text(name), junk(value)).unwrap().contains_key(name), "{name}");
        }
        assert!(read(junk("FOO"), text("x")).unwrap().is_empty());
        for (name, value) in [(text("PULLGATE__GATE__MODE"), junk("x")), (junk("PULLGATE__GATE__MODE"), text("x"))] {
            let problems = read(name, value).unwrap_err();
            let is_named = problems[0].to_string().starts_with("environment variable PULLGATE__GATE__MODE");
            assert!(problems.len() == 1 && is_named, "{problems:?}");
        }
    }

    /// A list has no variables, and neither have tables whose names the operator chooses.
    #[test]
    fn every_table_of_the_reference_is_known() {
        let reference = include_str!("../../config/pullgate.toml");
        let headers = || {
            let lines = reference.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
            lines.filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'))
        };
        let lists: Vec<&str> = headers().filter_map(|name| name.strip_prefix('[')?.strip_suffix(']')).collect();
        let chosen = ["trust.authority"];
        let is_below = |name: &str, table: &&str| name.strip_prefix(*table).is_some_and(|rest| rest.starts_with('.'));
        let is_reached = |name: &&str| {
            let is_name = name.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c));
            is_name && !lists.iter().chain(&chosen).any(|table| is_below(name, table))
        };
        let mut wanted: Vec<String> =
            headers().filter(is_reached).map(|name| name.replace('.', "_").to_ascii_uppercase()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut known = TABLES;
        known.sort_unstable();
        assert_eq!(known.as_slice(), wanted);
        for (at, outer) in TABLES.iter().enumerate() {
            let is_inner = |inner: &&str| inner.strip_prefix(*outer).is_some_and(|rest| rest.starts_with('_'));
            assert!(!TABLES[at..].iter().any(is_inner), "{outer} hides a table in it");
        }
    }
}
