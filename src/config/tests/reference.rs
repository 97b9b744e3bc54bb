//! docs/configuration.md, made from what the program reads and from the comments in config/pullgate.toml.
//!
//! `UPDATE_DOCS=1 cargo test --lib reference` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;
use crate::config::changes;

const HEAD: &str = "# Configuration reference

<!-- Made by a test from config/pullgate.toml and the program: UPDATE_DOCS=1 cargo test --lib reference -->

Every setting, by table. [config/pullgate.toml](../config/pullgate.toml) has the same settings as a file to copy from; the
text below is from its comments.

| type | written as |
|---|---|
| text | `\"text\"` |
| path | `\"text\"`; a relative path begins at the directory of the configuration file |
| list of texts, list of paths | `[\"a\", \"b\"]` |
| number | `10`, within the range that is given |
| true or false | `true` |
| duration | `\"500ms\"`, `\"20s\"`, `\"5m\"`, `\"1h30m\"`, `\"30d\"`; `\"0s\"` is none |
| size | `\"64KiB\"`, `\"200GiB\"`, in powers of 1024; a number without a unit is bytes, 0 or at least 1024 |
| `\"a\"`, `\"b\"` | one of these words |

- **Environment.** Every setting outside `[[lists]]` can be set by a variable, which overrides the file:
  `PULLGATE__CACHE__MAX_SIZE=50GiB` is `max_size` in `[cache]`. Lists have commas: `PULLGATE__GATE__PLATFORMS=linux/amd64,linux/arm64`.
- **Changes.** The column *in use after* says when a changed setting takes effect: after a *reload* (`pullgate reload`, SIGHUP, or
  30 s after the file has changed) or after a *restart*. `pullgate reload` names those that wait for a restart.
  [operating.md](operating.md#what-a-reload-changes) has the details, such as what applies to open connections.
- `pullgate config check` finds mistakes, and `pullgate config show` prints what applies, with defaults and variables.
";

/// A setting as config/pullgate.toml has it.
#[derive(Debug, Default)]
struct Setting {
    /// The key with its table: `listener.tls.key`.
    path: String,
    /// What is after the equals sign.
    value: String,
    /// Whether it is in a comment, because it has no default.
    is_example: bool,
    /// The comment above it.
    text: String,
}

/// A table of config/pullgate.toml.
#[derive(Debug, Default)]
struct Section {
    /// With its brackets: `[[upstream]]`.
    title: String,
    /// The comment above it.
    text: String,
    settings: Vec<Setting>,
}

/// A line without what makes it a comment, and whether it is one.
fn uncommented(line: &str) -> (&str, bool) {
    line.strip_prefix('#').map_or((line, false), |rest| (rest.trim_start(), true))
}

/// The key and the value of a line that sets one.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(" = ")?;
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_key.then_some((key, value))
}

fn sections(file: &str) -> Vec<Section> {
    let (mut sections, mut text) = (vec![Section::default()], String::new());
    for line in file.lines() {
        let (content, is_comment) = uncommented(line);
        let path = |title: &str| title.trim_matches(['[', ']']).to_owned();
        if content.starts_with('[') && content.ends_with(']') {
            sections.push(Section { title: content.to_owned(), text: std::mem::take(&mut text), settings: Vec::new() });
        } else if let Some((key, value)) = assignment(content) {
            let section = sections.last_mut().unwrap();
            let table = path(&section.title);
            let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            let text = std::mem::take(&mut text);
            section.settings.push(Setting { path, value: value.to_owned(), is_example: is_comment, text });
        } else if is_comment && !content.is_empty() {
            text = format!("{text} {content}").trim_start().to_owned();
        } else {
            text.clear();
        }
    }
    sections
}

/// A path without positions and names: `listener.tls.client_names.NAME.scope`.
fn general(path: &str) -> String {
    let mut general = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        general.push_str(before);
        rest = after.split_once(']').unwrap().1;
    }
    general.push_str(rest);
    for named in ["listener.tls.client_names.", "trust.authority."] {
        if let Some((_, after)) = general.clone().split_once(named).filter(|_| general.starts_with(named)) {
            let inner = after.rsplit_once('.').map_or(String::new(), |(_, inner)| format!(".{inner}"));
            general = format!("{named}NAME{inner}");
        }
    }
    general
}

/// What the program reads.
#[derive(Default)]
struct KnownSettings {
    /// What each must be.
    kinds: BTreeMap<String, String>,
    /// The values that `config show` prints where nothing else is set.
    shown: BTreeSet<(String, String)>,
}

/// What the program reads, from configurations that have each table once and set what they must.
fn read() -> KnownSettings {
    let minimal = "[policy]\ndir = \"p\"\n[[upstream]]\nhost = \"docker.io\"\nserve_to = [\"a\"]\n";
    let variants = [
        "",
        "[[listener]]\ntls = { certificate = \"a\", key = \"b\", client_ca = \"c\", client_names = { x = { scope = \"s\" } } }\n",
        "[va.ibm]\napi_key_env = \"PATH\"\n",
        "[[va.scanner]]\nkind = \"trivy\"\ncommand = \"a\"\n",
        "[[va.scanner]]\nkind = \"harbor\"\nurl = \"https://a\"\nauth = { type = \"bearer\", token_file = \"t\" }\n\
         registry = [{ host = \"a.b\", url = \"https://a\", auth = { type = \"basic\", username = \"u\", password_file = \"p\" } }]\n",
        "[trust.authority.a.notary]\nserver = \"https://a\"\n",
    ];
    let auths = [
        "type = \"basic\", username = \"u\", password_file = \"p\"",
        "type = \"basic\", username = \"u\", password_env = \"p\"",
        "type = \"docker-config\", file = \"f\"",
        "type = \"helper\", program = \"p\"",
        "type = \"iam\", api_key_file = \"f\"",
        "type = \"iam\", api_key_env = \"p\"",
    ];
    let auths = auths.map(|auth| format!("{minimal}auth = {{ {auth} }}\n"));
    let texts = variants.iter().map(|variant| format!("{minimal}{variant}")).chain(auths);
    let mut found = KnownSettings::default();
    let folder = tempfile::tempdir().unwrap();
    for text in texts {
        let path = folder.path().join("pullgate.toml");
        std::fs::write(&path, &text).unwrap();
        let (config, problems) = Config::examine(Some(&path), std::iter::empty());
        let config = config.unwrap_or_else(|| panic!("{text}: {problems:?}"));
        found.kinds.extend(config.places.kinds().iter().map(|(path, kind)| (general(path), kind.clone())));
        let shown = sections(&config.show()).into_iter().flat_map(|section| section.settings);
        found.shown.extend(shown.map(|setting| (general(&setting.path), setting.value)));
    }
    found
}

/// Settings of policy documents, and secrets, which nobody should write into the file.
fn is_elsewhere(path: &str) -> bool {
    path.starts_with("trust.authority.")
        || [".password", ".api_key", ".token", "auth.key", "auth.key_file", "auth.key_env", ".token_env"]
            .iter()
            .any(|end| path.ends_with(end))
        || path.starts_with("va.scanner.registry")
        || path.starts_with("va.scanner.auth")
}

/// Whether a setting has no default although config/pullgate.toml sets it, or the configurations here.
fn is_needed(path: &str) -> bool {
    let needed = ["policy.dir", "upstream.aliases", "upstream.host", "upstream.url", "va.scanner.kind"];
    needed.contains(&path) || path.starts_with("upstream.auth.")
}

/// When a running gate applies a changed setting.
fn in_use_after(path: &str) -> &'static str {
    if changes::is_live(path) || path.starts_with(changes::TLS) { "reload" } else { "restart" }
}

/// A row of a table.
fn row(setting: &Setting, kind: &str, is_default: bool) -> String {
    let key = setting.path.rsplit('.').next().unwrap();
    let value = match is_default {
        true => format!("`{}`", setting.value),
        false => format!("none; such as `{}`", setting.value),
    };
    let cells =
        [format!("`{key}`"), kind.to_owned(), value, in_use_after(&setting.path).to_owned(), setting.text.clone()];
    format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn page() -> String {
    let file = include_str!("../../../config/pullgate.toml");
    let known = read();
    let kinds = &known.kinds;
    let mut page = HEAD.to_owned();
    let mut written = BTreeSet::new();
    for section in sections(file).iter().filter(|section| !section.title.starts_with("[trust.authority")) {
        let mut rows = String::new();
        for setting in &section.settings {
            let path = general(&setting.path.replace('"', ""));
            let Some(kind) = kinds.get(&path) else { panic!("config/pullgate.toml has {path}, which nothing reads") };
            if written.insert((section.title.clone(), path.clone())) {
                let is_default = known.shown.contains(&(path.clone(), setting.value.clone())) || !setting.is_example;
                let _ = writeln!(rows, "{}", row(setting, kind, is_default && !is_needed(&path)));
            }
        }
        if rows.is_empty() {
            continue;
        }
        let title = if section.title.is_empty() { "Top level".to_owned() } else { format!("`{}`", section.title) };
        let _ = write!(page, "\n## {title}\n\n");
        if !section.text.is_empty() && !section.title.is_empty() {
            let _ = write!(page, "{}\n\n", section.text);
        }
        let _ = write!(page, "| key | type | default | in use after | |\n|---|---|---|---|---|\n{rows}");
    }
    let written: BTreeSet<String> = written.into_iter().map(|(_, path)| path).collect();
    let is_missing = |(path, kind): &(&String, &String)| {
        !written.contains(*path)
            && !is_elsewhere(path)
            && !["table", "list of tables", "tables by name"].contains(&kind.as_str())
    };
    let missing: Vec<_> = kinds.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "config/pullgate.toml does not have {missing:?}");
    page
}

#[test]
fn the_reference_of_the_configuration_is_current() {
    compare("docs/configuration.md", &page());
}

/// Compares a page that is made from code with the file, and writes the file if `UPDATE_DOCS` is set.
#[track_caller]
fn compare(file: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == page, "{file} is not current: write it with UPDATE_DOCS=1 cargo test --lib reference");
}

/// The blocks of a page that are parts of a configuration: not those for containerd and podman.
fn toml_blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let dedented = blocks.map(|block| {
        let indentation = block.len() - block.trim_start_matches(' ').len();
        block.lines().map(|line| line.get(indentation..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
    });
    let is_ours =
        |block: &String| !["server = ", "[[registry]]", "[plugins."].iter().any(|other| block.contains(other));
    dedented.filter(is_ours).collect()
}

/// The paths of the values in a tree.
fn leaves(node: &Node, path: &str, found: &mut Vec<String>) {
    match &node.value {
        Value::Map(members) => {
            for member in members {
                let path = if path.is_empty() { member.key.clone() } else { format!("{path}.{}", member.key) };
                leaves(&member.node, &path, found);
            }
        }
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => {
            items.iter().for_each(|item| leaves(item, path, found));
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn settings_in_the_papers_exist() {
    let kinds = read().kinds;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut count = 0;
    for folder in [root.join("tasks"), root] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            for block in toml_blocks(&std::fs::read_to_string(&path).unwrap()) {
                let problems = Problems::default();
                let tree = read_toml(&block, problems.file("block"), &problems);
                let tree = tree.unwrap_or_else(|| panic!("{}: not TOML:\n{block}", path.display()));
                let mut found = Vec::new();
                leaves(&tree, "", &mut found);
                for key in found.iter().map(|key| general(key)) {
                    // Some blocks leave the table to the text.
                    let is_known = |known: &String| *known == key || known.ends_with(&format!(".{key}"));
                    let is_ours = key.starts_with("trust.authority.") || kinds.keys().any(is_known);
                    assert!(is_ours, "{}: no setting is called {key}", path.display());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 40, "only {count} settings were found");
}
