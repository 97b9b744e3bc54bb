//! Rules about the source itself: which module may use which, and which files may build a permit. Links between the papers.

#![allow(clippy::unwrap_used, reason = "a failure of the test itself may panic")]

#[path = "structure/documents.rs"]
mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// A row of the table "Modules and allowed edges" in ARCHITECTURE.md.
struct Row {
    tier: u8,
    module: String,
    may_use: BTreeSet<String>,
}

/// The table: its rows start with a tier, the module's name in backticks, and the modules that it may use.
fn table() -> Vec<Row> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Modules and allowed edges\n").nth(1).expect("the section with the table");
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let [tier, module, may_use, _holds, ""] = cells[..] else { panic!("not a row of the table: {line}") };
        let tier = tier.parse().ok()?;
        let [module] = &names(module)[..] else { panic!("a row describes one module: {line}") };
        Some(Row { tier, module: module.clone(), may_use: names(may_use).into_iter().collect() })
    };
    section.lines().filter_map(row).collect()
}

/// Every edge in the code is in the table, and every edge in the table is in the code.
#[test]
fn modules_use_exactly_what_the_table_allows() {
    let mut used: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for file in rust_files(Path::new(SRC)) {
        let module = module_of(&file);
        if module == "lib" || module == "main" {
            continue;
        }
        let edges = used.entry(module.clone()).or_default();
        for name in uses(&fs::read_to_string(&file).unwrap()) {
            if name != module {
                edges.insert(name, file.clone());
            }
        }
    }
    let table = table();
    let listed: BTreeSet<&str> = table.iter().map(|row| &*row.module).collect();
    let present: BTreeSet<&str> = used.keys().map(String::as_str).collect();
    assert_eq!(listed, present, "the table in ARCHITECTURE.md lists exactly the modules in src");
    let mut wrong = Vec::new();
    for Row { module, may_use, .. } in &table {
        let edges = &used[module];
        for (name, file) in edges.iter().filter(|(name, _)| !may_use.contains(*name)) {
            wrong.push(format!("{}: {module} may not use {name}", file.display()));
        }
        for name in may_use.iter().filter(|name| !edges.contains_key(*name)) {
            wrong.push(format!("ARCHITECTURE.md: {module} may use {name}, but does not; remove the edge"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle_and_no_edge_to_a_higher_tier() {
    let table = table();
    let tiers: BTreeMap<&str, u8> = table.iter().map(|row| (&*row.module, row.tier)).collect();
    for Row { tier, module, may_use } in &table {
        let higher: Vec<_> = may_use.iter().filter(|used| tiers[&***used] > *tier).collect();
        assert!(higher.is_empty(), "{module} uses higher tiers: {higher:?}");
    }
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < table.len() {
        let before = done.len();
        for row in &table {
            if row.may_use.iter().all(|used| done.contains(&**used)) {
                done.insert(&row.module);
            }
        }
        assert!(done.len() > before, "a cycle among those not in {done:?}");
    }
}

/// A permit is the only value that opens the way to content, so only `policy::decide` may build one, only `gate` may ask
/// for a decision, and only `cache` turns a permit into content.
#[test]
fn permits_are_made_in_one_place() {
    for file in rust_files(Path::new(SRC)) {
        let (code, module) = (code_of(&file), module_of(&file));
        let is_decide = file.ends_with("policy/decide.rs");
        let builds = ["Permit {", "ListingPermit {"].iter().any(|made| has_word(&code, made));
        assert!(is_decide || !builds, "{}: builds a permit", file.display());
        let asks = code.contains("decide(&")
            || code.contains("weigh(&")
            || code.contains("admit_unmatched(")
            || code.contains("admit_listing");
        // `policy.rs` only re-exports them.
        let may_ask = is_decide
            || file.ends_with("src/policy.rs")
            || module == "gate"
            || file.to_string_lossy().contains("/cli/policy/");
        assert!(may_ask || !asks, "{}: asks for a decision", file.display());
        let opens = code.contains("cache.open(");
        assert!(module == "gate" || module == "cache" || !opens, "{}: opens content", file.display());
    }
}

/// The sum of the budgets counts the memory of each topic of evidence.
#[test]
fn every_topic_of_evidence_has_a_budget() {
    let topics: usize = rust_files(Path::new(SRC)).iter().map(|file| code_of(file).matches("Memo::new(").count()).sum();
    let budgets = code_of(&Path::new(SRC).join("runtime/budget.rs"));
    assert!(budgets.contains(&format!("EVIDENCE_TOPICS: u64 = {topics};")), "there are {topics} topics");
}

/// Names that several modules give to a type of their own, always used with the module's name: `cache::Config`.
const QUALIFIED: &[&str] = &["Config", "Error"];

/// A reader who searches for a type by its name finds one definition (CONTRIBUTING.md).
#[test]
fn a_type_name_is_defined_once() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(Path::new(SRC)) {
        for name in types(&fs::read_to_string(&file).unwrap()) {
            defined.entry(name).or_default().push(file.strip_prefix(SRC).unwrap().display().to_string());
        }
    }
    assert!(defined.contains_key("Permit"), "the definitions are found");
    defined.retain(|name, files| files.len() > 1 && !QUALIFIED.contains(&&**name));
    assert!(defined.is_empty(), "defined more than once: {defined:#?}");
}

/// The types, traits and aliases that a file defines outside its tests and functions.
fn types(text: &str) -> Vec<String> {
    let code = without_tests(text);
    let name = |line: &str| {
        let line = line.strip_prefix("pub").map_or(line, |rest| {
            let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
            rest.trim_start()
        });
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let is_type = matches!(words.next(), Some("struct" | "enum" | "trait" | "type" | "union"));
        words.next().filter(|name| is_type && !name.is_empty()).map(str::to_owned)
    };
    code.lines().filter_map(name).collect()
}

/// Whether the text occurs in the code, and not only as the end of a longer word.
fn has_word(code: &str, text: &str) -> bool {
    code.match_indices(text).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// A tag of this version can be released: `deploy/release` requires the section and the versions of the chart.
#[test]
fn the_changelog_and_the_chart_have_the_version_of_the_program() {
    let read = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let changelog = read("CHANGELOG.md");
    let dates: Vec<&str> =
        changelog.lines().filter_map(|line| line.strip_prefix(&format!("## [{version}] - "))).collect();
    let is_date = |date: &str| {
        date.split('-').map(str::len).eq([4, 2, 2]) && date.chars().all(|c| c.is_ascii_digit() || c == '-')
    };
    assert!(matches!(dates[..], [date] if is_date(date)), "CHANGELOG.md: {dates:?}");
    let chart = read("deploy/helm/pullgate/Chart.yaml");
    for line in [format!("version: {version}"), format!("appVersion: \"{version}\"")] {
        assert!(chart.lines().any(|found| found == line), "Chart.yaml has no line {line}");
    }
}

/// A container build sees what `.dockerignore` allows and the Containerfile copies.
#[test]
fn container_builds_have_every_file_that_the_program_includes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    let (allowed, recipe) = (read_lines(&root.join(".dockerignore")), read_lines(&root.join("deploy/Containerfile")));
    let mut outside = BTreeSet::new();
    for file in rust_files(&root.join("src")) {
        let code = code_of(&file);
        let included = ["include_str!(\"", "include_bytes!(\""].into_iter().flat_map(|call| code.split(call).skip(1));
        for name in included.filter_map(|rest| rest.split('"').next()) {
            let path = file.parent().unwrap().join(name).canonicalize().unwrap();
            let path = path.strip_prefix(&root).unwrap();
            if !path.starts_with("src") {
                outside.insert(path.display().to_string());
            }
        }
    }
    assert!(outside.contains("docs/policy.schema.json"), "the files are found: {outside:?}");
    for path in outside {
        assert!(allowed.contains(&format!("!{path}")), ".dockerignore hides {path}");
        let copies = format!("COPY {path} ");
        assert!(recipe.iter().any(|line| line.starts_with(&copies)), "deploy/Containerfile does not copy {path}");
    }
}

/// The compiler of a container build is as new as the program needs.
#[test]
fn the_papers_and_container_builds_name_the_version_of_rust() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let manifest = text("Cargo.toml");
    let needed = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(text("deploy/Containerfile").contains(&format!("ARG RUST=docker.io/library/rust:{needed}-bookworm\n")));
    assert!(text("README.md").contains(&format!("Rust {needed} or newer")));
}

fn read_lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// Every link between the papers leads to a file, and to a heading of it.
#[test]
fn links_in_the_papers_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = ["docs", "deploy", "certs", "benches"].map(|folder| root.join(folder)).into();
    let mut pages: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
        .map(|page| root.join(page))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "md" => pages.push(path),
                _ => (),
            }
        }
    }
    let (mut count, mut dead) = (0, Vec::new());
    for page in &pages {
        let text = without_blocks(&fs::read_to_string(page).unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            count += 1;
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = match heading {
                "" => target.exists(),
                _ => fs::read_to_string(&target).is_ok_and(|text| headings(&text).any(|known| known == heading)),
            };
            if !is_there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// A page without its fenced blocks, in which a line may look like a heading or a link.
fn without_blocks(page: &str) -> String {
    page.split("```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The names under which links find the headings of a page, as GitHub makes them.
fn headings(page: &str) -> impl Iterator<Item = String> {
    let page = without_blocks(page);
    let lines: Vec<String> = page.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect();
    lines.into_iter().map(|line| {
        let kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
        let text = line.trim_start_matches('#').trim().to_lowercase();
        text.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The product's source files: no `tests.rs` and no `tests` folder.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

fn module_of(file: &Path) -> String {
    let inner = file.strip_prefix(SRC).unwrap();
    let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The text of a file before the module of tests at its end. Tests in files of their own are only declared, in any place.
fn without_tests(text: &str) -> &str {
    let mut found = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at);
    let end = found.find(|at| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{')));
    &text[..end.unwrap_or(text.len())]
}

/// The code of a file, without comments and tests.
fn code_of(file: &Path) -> String {
    without_comments(without_tests(&fs::read_to_string(file).unwrap()))
}

/// The modules that a file names by `crate::` outside its tests.
fn uses(text: &str) -> BTreeSet<String> {
    let code = without_comments(without_tests(text));
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
