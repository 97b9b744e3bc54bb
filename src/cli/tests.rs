//! Every command line in the papers is one that this program accepts: in blocks as a whole, in running text by its
//! words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Exit, command};

/// The pages of the project, with their paths in the checkout.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("docs"), PathBuf::from("deploy"), PathBuf::from("certs")];
    let mut files: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "config/pullgate.toml"].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root.join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    for file in files {
        found.push((file.display().to_string(), fs::read_to_string(root.join(&file)).unwrap()));
    }
    found
}

/// The lines of the blocks with commands, each with all that continues it; without the contents of here-documents.
fn command_lines(page: &str) -> Vec<String> {
    let (mut lines, mut block, mut here) = (Vec::<String>::new(), None, None::<String>);
    let mut continues = false;
    for line in page.lines() {
        let text = line.trim();
        if let Some(fence) = text.strip_prefix("```") {
            let is_open = block.is_some();
            block = (!is_open).then(|| fence.split(' ').next().unwrap_or_default().to_owned());
            continue;
        }
        if let Some(end) = &here {
            here = (text != end).then(|| end.clone());
            continue;
        }
        let command = match block.as_deref() {
            _ if continues => Some(text),
            Some("sh") => Some(text),
            Some("console") => text.strip_prefix("$ ").or_else(|| text.strip_prefix("# ")),
            _ => None,
        };
        let Some(command) = command else { continue };
        match lines.last_mut() {
            Some(last) if continues => last.push_str(command),
            _ => lines.push(command.to_owned()),
        }
        continues = command.ends_with('\\');
        if continues {
            lines.last_mut().unwrap().pop();
        }
        here = command.split_once("<<").map(|(_, end)| end.trim_matches(['\'', '-', ' ']).to_owned());
    }
    lines
}

/// The commands of a line, each as its words: as the shell splits them, without redirections and comments.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in format!("{line}\n").chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\n') => words.extend(word.take()),
            (None, '|' | ';' | '&' | '(' | ')') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands.into_iter().map(without_redirections).collect()
}

fn without_redirections(words: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.trim_start_matches(['1', '2']) {
            ">" | ">>" | "<" => drop(words.next()),
            _ if word.starts_with(['>', '<']) => (),
            _ => kept.push(word),
        }
    }
    kept
}

/// The arguments of this program, if the command runs it.
fn arguments(words: &[String]) -> Option<&[String]> {
    let is_program = |word: &String| word == "pullgate" || word.ends_with("/bin/pullgate");
    let at = words.iter().position(is_program)?;
    // Before it there can only be variables, or what runs it elsewhere.
    let before = &words[..at];
    let runs =
        before.iter().all(|word| word.contains('=')) || before.iter().any(|word| word == "exec" || word == "sudo");
    runs.then(|| &words[at..])
}

#[test]
fn every_command_in_a_block_is_accepted() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, text) in pages() {
        for line in command_lines(&text) {
            for words in commands(&line) {
                let Some(arguments) = arguments(&words) else { continue };
                count += 1;
                if let Err(error) = command().try_get_matches_from(arguments)
                    && error.use_stderr()
                {
                    wrong.push(format!("{page}: {line}\n{error}"));
                }
            }
        }
    }
    assert!(count > 70, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with words such as `policy check|match --config FILE`, in which arguments may be missing.
fn misfit(words: &str) -> Option<String> {
    let root = command();
    let mut current = vec![&root];
    for word in words.split_whitespace() {
        if let Some(name) = word.strip_prefix("--") {
            let name = name.split('=').next().unwrap_or_default();
            let knows = |command: &clap::Command| {
                let arguments = command.get_arguments().chain(root.get_arguments());
                let names = ["help", "version"].contains(&name);
                names || arguments.into_iter().any(|argument| argument.get_long() == Some(name))
            };
            if !current.iter().all(|command| knows(command)) {
                return Some(format!("no option --{name}"));
            }
        } else if current.iter().all(|command| command.has_subcommands()) && !word.starts_with('-') {
            // `pullgate help COMMAND`, `pullgate COMMAND --help`
            if word == "help" || word == word.to_uppercase() {
                return None;
            }
            let mut next = Vec::new();
            for name in word.split('|') {
                let found: Vec<_> = current.iter().filter_map(|command| command.find_subcommand(name)).collect();
                if found.is_empty() {
                    return Some(format!("no command {name}"));
                }
                next.extend(found);
            }
            current = next;
        }
    }
    None
}

#[test]
fn every_command_in_running_text_exists() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, text) in pages() {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for span in text.split('`').skip(1).step_by(2).filter_map(|span| span.strip_prefix("pullgate ")) {
            count += 1;
            wrong.extend(misfit(span).map(|why| format!("{page}: pullgate {span}: {why}")));
        }
    }
    assert!(count > 100, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lines_are_split_as_a_shell_does() {
    let page = "```sh\na \\\n  b <<'END'\npullgate x\nEND\nc\n```\n```console\n$ d\ne\n```\n```text\nf\n```\n";
    assert_eq!(command_lines(page), ["a b <<'END'", "c", "d"]);
    let split = commands("A=1 pullgate check 'x y' > out || echo \"exit code $?\"; b | c # d");
    assert_eq!(split, [vec!["A=1", "pullgate", "check", "x y"], vec!["echo", "exit code $?"], vec!["b"], vec!["c"]]);
    assert_eq!(arguments(&split[0]).unwrap().len(), 3);
    assert!(misfit("policy check|match --config FILE").is_none() && misfit("cache remove").is_some());
    assert!(misfit("cache pins --nothing").is_some() && misfit("help COMMAND").is_none());
}

/// The table of docs/operating.md has every exit code.
#[test]
fn documented_exit_codes_are_those_of_the_program() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let table = page.split("| code | commands | meaning |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let documented = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
    let next = |exit: &Exit| {
        // Each leads to the next one, so that a new one cannot be forgotten here.
        Some(match exit {
            Exit::Ok => Exit::Failure,
            Exit::Failure => Exit::Denied,
            Exit::Denied => Exit::Unknown,
            Exit::Unknown => Exit::WouldDeny,
            Exit::WouldDeny => Exit::Usage,
            Exit::Usage => Exit::Cut,
            Exit::Cut => Exit::Config,
            Exit::Config | Exit::Program(_) => return None,
        })
    };
    let codes: Vec<u8> = std::iter::successors(Some(Exit::Ok), next).map(Exit::code).collect();
    assert_eq!(documented.collect::<Vec<_>>(), codes);
}

/// Commands that print data print it as JSON, too. The others run something, or print text in another format.
#[test]
fn every_command_that_prints_data_has_an_output_format() {
    const OTHERS: [&str; 11] = [
        "certs init",
        "completions",
        "confine",
        "demo",
        "man",
        "policy eval",
        "policy import",
        "policy schema",
        "serve",
        "trust update",
        "help",
    ];
    fn without(of: &clap::Command, path: &str, found: &mut Vec<String>) {
        for sub in of.get_subcommands() {
            let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
            without(sub, &path, found);
            if !sub.has_subcommands() && sub.get_arguments().all(|argument| argument.get_long() != Some("output")) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    without(&command(), "", &mut found);
    found.retain(|path| !OTHERS.contains(&path.as_str()));
    assert_eq!(found, Vec::<String>::new());
}

/// Who reads the output with a program learns from the help whether it is one document.
#[test]
fn the_help_tells_which_commands_print_an_object_per_line() {
    fn per_line(of: &clap::Command, path: &str, found: &mut Vec<String>) {
        for sub in of.get_subcommands() {
            let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
            per_line(sub, &path, found);
            let output = sub.get_arguments().find(|argument| argument.get_long() == Some("output"));
            let formats = output.map(clap::Arg::get_possible_values).unwrap_or_default();
            let json = formats
                .iter()
                .find(|format| format.get_name() == "json")
                .and_then(clap::builder::PossibleValue::get_help);
            if json.is_some_and(|help| help.to_string().contains("per line")) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    per_line(&command(), "", &mut found);
    assert_eq!(found, ["policy check", "policy match"]);
}

/// What no command has is taken for a mistaken setting.
#[test]
fn the_variables_of_commands_are_known() {
    fn collect(command: &clap::Command, found: &mut BTreeSet<String>) {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        let names = variables.map(|name| name.to_string_lossy().into_owned());
        found.extend(names.filter(|name| name.starts_with("PULLGATE_")));
        command.get_subcommands().for_each(|sub| collect(sub, found));
    }
    let mut found = BTreeSet::new();
    collect(&command(), &mut found);
    assert_eq!(found, BTreeSet::from(crate::config::COMMANDS.map(|name| format!("PULLGATE_{name}"))));
}
