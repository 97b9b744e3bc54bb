//! The house rules as a test: which module may use which (ARCHITECTURE.md), and who may make what.

#![allow(clippy::unwrap_used, reason = "a failure of the test itself may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with those it may use. Any other edge fails.
const MAY_USE: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("markup", &["runtime"]),
    ("runtime", &[]),
    ("http_client", &["runtime"]),
    ("pki", &[]),
    ("scope", &[]),
    ("policy", &["markup", "oci", "scope"]),
    ("store", &["oci", "policy", "runtime"]),
    ("upstream", &["http_client", "oci", "runtime", "scope"]),
    ("cache", &["oci", "policy", "runtime", "store", "upstream"]),
    ("rulebook", &["markup", "oci", "policy", "runtime", "store"]),
    ("audit", &["oci", "policy", "runtime", "store"]),
    ("resolve", &["audit", "cache", "oci", "policy", "rulebook", "runtime", "store", "upstream"]),
    ("trust", &["audit", "cache", "oci", "policy", "rulebook", "runtime", "store", "upstream"]),
    ("va", &["audit", "cache", "http_client", "oci", "policy", "rulebook", "runtime", "store", "upstream"]),
    (
        "gate",
        &[
            "audit", "cache", "oci", "policy", "resolve", "rulebook", "runtime", "scope", "store", "trust", "upstream",
            "va",
        ],
    ),
    ("api", &["cache", "gate", "oci", "policy", "scope"]),
    ("prefetch", &["cache", "gate", "oci", "policy", "runtime", "scope"]),
    // `resolve` and `upstream` for their errors alone: the one mapping to the wire is here.
    (
        "server",
        &[
            "api", "audit", "cache", "gate", "oci", "policy", "prefetch", "resolve", "rulebook", "runtime", "scope",
            "upstream",
        ],
    ),
    ("sample", &["oci", "runtime"]),
    (
        "config",
        &[
            "audit", "cache", "gate", "markup", "oci", "policy", "prefetch", "rulebook", "runtime", "scope", "server",
            "trust", "upstream", "va",
        ],
    ),
    (
        "app",
        &[
            "api", "audit", "cache", "config", "gate", "oci", "policy", "prefetch", "resolve", "rulebook", "runtime",
            "server", "store", "trust", "upstream", "va",
        ],
    ),
    (
        "cli",
        &[
            "api",
            "app",
            "config",
            "http_client",
            "markup",
            "oci",
            "pki",
            "policy",
            "rulebook",
            "runtime",
            "sample",
            "scope",
            "server",
        ],
    ),
];

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    let mut modules = BTreeSet::new();
    for file in rust_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let module = module_of(&file);
        if module == "lib" || module == "main" {
            continue;
        }
        let allowed = MAY_USE.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            panic!("{module} is not in the table; add it there and to ARCHITECTURE.md")
        };
        modules.insert(module.clone());
        for used in uses(&fs::read_to_string(&file).unwrap()) {
            if used != module && !allowed.contains(&&*used) {
                wrong.push(format!("{}: {module} may not use {used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let listed: BTreeSet<String> = MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed, modules, "the table lists exactly the modules that there are");
}

#[test]
fn the_table_has_no_cycle() {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < MAY_USE.len() {
        let before = done.len();
        for (module, allowed) in MAY_USE {
            if allowed.iter().all(|used| done.contains(used)) {
                done.insert(module);
            }
        }
        assert!(done.len() > before, "a cycle among those not in {done:?}");
    }
}

/// A permit is the only value that opens the way to content, so only `policy::decide` may build one, only `gate` may ask
/// for a decision, and only `cache` turns a permit into content.
#[test]
fn permits_are_made_in_one_place() {
    for file in rust_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let code = without_comments(&fs::read_to_string(&file).unwrap());
        let (code, module) = (code.split("#[cfg(test)]").next().unwrap().to_owned(), module_of(&file));
        let is_decide = file.ends_with("policy/decide.rs");
        let builds = ["Permit {", "ListingPermit {"].iter().any(|made| has_word(&code, made));
        assert!(is_decide || !builds, "{}: builds a permit", file.display());
        let asks = code.contains("decide(&")
            || code.contains("weigh(&")
            || code.contains("admit_unmatched(")
            || code.contains("admit_listing");
        // `policy.rs` names them for those who may ask.
        let may_ask = is_decide
            || file.ends_with("src/policy.rs")
            || module == "gate"
            || file.to_string_lossy().contains("/cli/policy/");
        assert!(may_ask || !asks, "{}: asks for a decision", file.display());
        let opens = code.contains("cache.open(");
        assert!(module == "gate" || module == "cache" || !opens, "{}: opens content", file.display());
    }
}

/// Whether the text stands there as a word of its own, and not at the end of another.
fn has_word(code: &str, text: &str) -> bool {
    code.match_indices(text).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

fn module_of(file: &Path) -> String {
    let inner = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules that a file names by `crate::`, its tests left out.
fn uses(text: &str) -> BTreeSet<String> {
    let code = without_comments(text);
    let code = code.split("#[cfg(test)]\nmod").next().unwrap();
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let group = part.strip_prefix('{').map(|rest| rest.split('}').next().unwrap());
        for path in group.unwrap_or(part).split(',').take(if group.is_some() { usize::MAX } else { 1 }) {
            let name: String = path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() && name.chars().next().is_some_and(char::is_lowercase) {
                found.insert(name);
            }
        }
    }
    found
}
