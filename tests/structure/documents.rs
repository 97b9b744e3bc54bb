//! What the papers and comments say about the source, compared with the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{SRC, code_of, rust_files, without_blocks, without_tests};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What other programs and the system say in messages that the papers quote.
const FOREIGN: &[&str] = &["Address already in use", "Connection refused"];

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The source files of the program, its tests and its benchmarks.
fn all_rust_files() -> Vec<PathBuf> {
    let all = ["src", "tests", "benches"].into_iter().flat_map(|folder| files(&Path::new(ROOT).join(folder)));
    all.filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// A renamed file must not leave a step of a walk, or a row of the table, that names nothing.
#[test]
fn the_paths_in_the_architecture_exist() {
    let text = without_blocks(&read("ARCHITECTURE.md"));
    // A section about one folder names the files in it without the folder.
    let names: BTreeSet<String> =
        files(Path::new(SRC)).iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let is_path = |word: &&str| {
        let is_file = [".md", ".rs", ".sql", ".toml"].iter().any(|end| word.ends_with(end));
        is_file || word.ends_with('/') && !word.contains(' ')
    };
    let exists =
        |word: &str| [SRC, ROOT].iter().any(|folder| Path::new(folder).join(word).exists()) || names.contains(word);
    let paths: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_path).collect();
    assert!(paths.len() > 300, "only {} paths were found", paths.len());
    let missing: Vec<_> = paths.into_iter().filter(|path| !exists(path)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names files that do not exist: {missing:?}");
}

/// "`NAME` in `FILE`": the file contains the name.
#[test]
fn the_architecture_names_items_in_their_files() {
    let text = without_blocks(&read("ARCHITECTURE.md"));
    let (mut count, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let parts: Vec<&str> = line.split('`').collect();
        for at in (3..parts.len()).step_by(2).filter(|at| parts[at - 1] == " in " && parts[*at].ends_with(".rs")) {
            let Ok(code) = fs::read_to_string(Path::new(SRC).join(parts[at])) else { continue };
            // "`ONE`, `OTHER` and `THIRD` in `FILE`"
            let mut item = at - 2;
            loop {
                let name = parts[item].rsplit("::").next().unwrap();
                let is_word = name.chars().all(|c| c.is_alphanumeric() || c == '_');
                if is_word {
                    count += 1;
                    let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
                    if !words.contains(name) {
                        wrong.push(format!("{name} is not in {}", parts[at]));
                    }
                }
                if item < 3 || ![", ", " and "].contains(&parts[item - 1]) {
                    break;
                }
                item -= 2;
            }
        }
    }
    assert!(count > 50, "only {count} names were found");
    assert!(wrong.is_empty(), "ARCHITECTURE.md: {wrong:#?}");
}

/// The overview of the crate lists every module, and nothing else.
#[test]
fn the_crate_lists_its_modules() {
    let text = fs::read_to_string(Path::new(SRC).join("lib.rs")).unwrap();
    let words = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let listed: BTreeSet<String> = text.lines().filter(|line| line.starts_with("//! * ")).flat_map(words).collect();
    let module = |line: &str| line.strip_suffix(';')?.split_once("mod ").map(|(_, name)| name.to_owned());
    let modules: BTreeSet<String> = text.lines().filter(|line| line.starts_with("pub")).filter_map(module).collect();
    assert!(modules.len() > 20, "only {} modules were found", modules.len());
    assert_eq!(listed, modules);
}

/// The limit of CONTRIBUTING.md. The tests in a file of the program do not count; those in files of their own do.
#[test]
fn files_have_fewer_than_four_hundred_lines() {
    let length = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        without_tests(&text).trim_end().lines().count()
    };
    let long: Vec<_> = all_rust_files().into_iter().filter(|file| length(file) >= 400).collect();
    assert!(long.is_empty(), "{long:?}");
}

/// The messages that the tables of these pages quote are those of the program: between `…` and names in capitals, each part
/// is in the source.
#[test]
fn quoted_messages_are_those_of_the_program() {
    let source: String = rust_files(Path::new(SRC)).iter().map(|file| code_of(file)).collect();
    // A text that goes on in the next line.
    let mut lines = source.split("\\\n");
    let first = lines.next().unwrap().to_owned();
    let source = lines.fold(first, |text, line| text + line.trim_start());
    let (mut count, mut wrong) = (0, Vec::new());
    for page in ["docs/troubleshooting.md", "docs/trust.md"] {
        for quoted in quoted_messages(&read(page)) {
            let open = quoted.replace("DOCUMENT \"ENTRY\"", "…").replace("HOST", "…").replace(": ", "…");
            for part in open.split('…').map(|part| part.trim_matches([' ', '"'])).filter(|part| part.len() > 3) {
                count += 1;
                if !source.contains(part) && !FOREIGN.contains(&part) {
                    wrong.push(format!("{page}: {part:?}"));
                }
            }
        }
    }
    assert!(count > 40, "only {count} messages were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the first cells of tables of messages or reasons quote.
fn quoted_messages(page: &str) -> Vec<String> {
    let is_of_messages = |table: &&str| {
        let heading = table.strip_prefix("| ").and_then(|rest| rest.split(" |").next()).unwrap_or_default();
        heading == "reason" || heading.contains("message")
    };
    let rows = page.split("\n\n").filter(is_of_messages).flat_map(|table| table.lines().skip(2));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// The name of a test in prose is what a careless search and replace leaves.
#[test]
fn comments_do_not_contain_names_of_tests() {
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        (file, text)
    };
    let texts: Vec<(PathBuf, String)> = all_rust_files().into_iter().map(read).collect();
    let tests: BTreeSet<&str> = texts.iter().flat_map(|(_, text)| names_of_tests(text)).collect();
    assert!(tests.len() > 1000, "only {} tests were found", tests.len());
    let mut wrong = Vec::new();
    for (file, text) in &texts {
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("//")) {
            let prose =
                line.split('`').step_by(2).flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_'));
            let found = prose.filter(|word| word.contains('_') && tests.contains(word));
            wrong.extend(found.map(|word| format!("{}: {word}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn names_of_tests(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim).zip(text.lines().skip(1).map(str::trim));
    lines.filter_map(|(attribute, line)| {
        let is_test = attribute == "#[test]" || attribute.starts_with("#[tokio::test");
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?.split('(').next()?;
        (is_test && name.contains('_')).then_some(name)
    })
}
