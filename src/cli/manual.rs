//! `pullgate completions SHELL` and `pullgate man DIR`: both are made from the arguments themselves.

use std::io;
use std::path::{Path, PathBuf};

use super::{Exit, command, fail};

/// Shown below the help text.
pub(super) const COMPLETION_EXAMPLES: &str = "Examples:
  pullgate completions bash > /usr/share/bash-completion/completions/pullgate
  pullgate completions zsh > \"${fpath[1]}/_pullgate\"
  pullgate completions fish > ~/.config/fish/completions/pullgate.fish";
/// Shown below the help text.
pub(super) const MAN_EXAMPLES: &str = "Example:
  pullgate man /usr/local/share/man/man1";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell.
    #[arg(value_parser = clap::builder::EnumValueParser::<clap_complete::Shell>::new(), value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The directory for the pages, which is created if it does not exist.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionArgs) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "pullgate", &mut text);
    print!("{}", String::from_utf8_lossy(&text));
    Exit::Ok
}

/// Writes `pullgate.1`, and `pullgate-COMMAND.1` for each command.
pub(super) fn man(args: &ManArgs) -> Exit {
    let mut root = command().disable_help_subcommand(true);
    root.build();
    let written = std::fs::create_dir_all(&args.directory).and_then(|()| write_pages(&root, &args.directory));
    match written {
        Ok(()) => {
            eprintln!("pullgate: manual pages are in {}", shown(&args.directory));
            Exit::Ok
        }
        Err(error) => fail(format!("{}: cannot write the manual pages: {error}", shown(&args.directory))),
    }
}

/// Writes the page of a command, and those of its subcommands.
fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let mut inner = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    inner.try_for_each(|inner| write_pages(inner, directory))?;
    let page = clap_mangen::Man::new(command.clone());
    let file = page.get_filename();
    // Without a date, which clap_mangen would leave out together with its place.
    let title =
        format!(".TH {} 1 \"\" \"pullgate {}\" \"pullgate\"\n", file.trim_end_matches(".1"), env!("CARGO_PKG_VERSION"));
    let mut text = title.into_bytes();
    page.render_name_section(&mut text)?;
    text.extend(synopsis(command).into_bytes());
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    text.extend(environment(command).into_bytes());
    text.extend(notes(command).into_bytes());
    std::fs::write(directory.join(file), text)
}

/// The section with the usage as the help text shows it, with the names of values.
fn synopsis(command: &clap::Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let lines: Vec<String> = usage.lines().map(|line| roff(line.trim_start_matches("Usage:").trim())).collect();
    format!(".SH SYNOPSIS\n{}\n", lines.join("\n.br\n"))
}

/// The section with the variables that set options.
fn environment(command: &clap::Command) -> String {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let variables = shown.filter_map(|argument| {
        let (name, option) = (argument.get_env()?.to_string_lossy().into_owned(), argument.get_long()?);
        Some(format!(
            ".TP\n\\fB{}\\fR\nThe value of {}, if it is not given.\n",
            roff(&name),
            roff(&format!("--{option}"))
        ))
    });
    let variables: String = variables.collect();
    if variables.is_empty() { variables } else { format!(".SH ENVIRONMENT\n{variables}") }
}

/// The sections from the text below the help text: its paragraphs are exit codes, examples and other notes.
fn notes(command: &clap::Command) -> String {
    let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (mut exits, mut examples, mut others) = (String::new(), String::new(), String::new());
    for paragraph in below.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            exits = format!("{}\n.PP\n", roff(codes));
        } else if first.starts_with("Example") {
            examples = format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", roff(rest));
        } else {
            others.push_str(&format!(".PP\n{}\n", roff(paragraph)));
        }
    }
    let common = roff("0 is success, 1 a failure, 64 a wrong command line, and 78 a wrong configuration.");
    let others = if others.is_empty() { others } else { format!(".SH NOTES\n{others}") };
    format!(".SH EXIT STATUS\n{exits}{common}\n{examples}{others}")
}

/// A text for roff: without requests, and with hyphens and quotes that can be copied.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    let lines = text.lines().map(|line| if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    /// The longest line of an example, in columns: it must fit into a help text, which is wrapped at 100.
    const MAX_EXAMPLE: usize = 96;

    /// Every command that a user can run, with its words.
    fn commands(of: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        for sub in of.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            commands(sub, &path, found);
            found.push((path, sub.clone()));
        }
    }

    #[test]
    fn every_command_shows_examples() {
        let mut root = command();
        root.build();
        let mut all = Vec::new();
        commands(&root, "pullgate", &mut all);
        let without: Vec<&String> = all
            .iter()
            .filter(|(_, command)| {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                !help.contains("pullgate ")
            })
            .map(|(path, _)| path)
            .collect();
        assert_eq!(without, Vec::<&String>::new(), "commands without examples");
    }

    /// The help text of a command that reads no configuration does not offer one, and accepts it all the same.
    #[test]
    fn only_commands_that_read_a_configuration_offer_one() {
        let mut root = command();
        root.build();
        let mut all = Vec::new();
        commands(&root, "pullgate", &mut all);
        let offers = |command: &clap::Command| {
            command.get_arguments().any(|argument| argument.get_id() == "config" && !argument.is_hide_set())
        };
        let mut without: Vec<&str> =
            all.iter().filter(|(_, command)| !offers(command)).map(|(path, _)| &**path).collect();
        without.sort_unstable();
        let expected = [
            "pullgate certs",
            "pullgate certs init",
            "pullgate completions",
            "pullgate demo",
            "pullgate man",
            "pullgate policy import",
            "pullgate policy schema",
        ];
        assert_eq!(without, expected);
        for words in [&["pullgate", "--config", "a", "demo"][..], &["pullgate", "certs", "init", "--config", "a"]] {
            command().try_get_matches_from(words).unwrap();
        }
    }

    /// Help texts are wrapped at 100 columns. An example that is wrapped cannot be copied.
    #[test]
    fn no_example_is_wrapped() {
        let mut root = command();
        root.build();
        let mut all = vec![("pullgate".to_owned(), root.clone())];
        commands(&root, "pullgate", &mut all);
        for (path, command) in &all {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let long = help.lines().find(|line| line.starts_with(' ') && line.chars().count() > MAX_EXAMPLE);
            assert_eq!(long, None, "an example of {path} has more than {MAX_EXAMPLE} columns");
        }
    }

    #[test]
    fn pages_and_completions_name_every_command() {
        let directory = tempfile::tempdir().unwrap();
        let exit = man(&ManArgs { directory: directory.path().join("man1") });
        assert_eq!(exit, Exit::Ok);
        let mut root = command();
        root.build();
        let mut all = Vec::new();
        commands(&root, "pullgate", &mut all);
        for (path, _) in &all {
            let page = directory.path().join("man1").join(format!("{}.1", path.replace(' ', "-")));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            let heads = ["SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES"];
            assert!(heads.iter().all(|head| text.contains(&format!(".SH {head}\n"))), "{path} {text}");
            assert!(text.starts_with(&format!(".TH {} 1 \"\" \"pullgate ", path.replace(' ', "-"))), "{path} {text}");
        }
        let page = |name: &str| std::fs::read_to_string(directory.path().join("man1").join(name)).unwrap();
        let check = page("pullgate-check.1");
        for wanted in [
            "\\fBPULLGATE_CONFIG\\fR\nThe value of \\-\\-config, if it is not given.",
            ".SH EXIT STATUS\n0 all are admitted, 1 an image could not be checked",
            ".nf\n  pullgate check \\-\\-config pullgate.toml docker.io/library/nginx:1.27\n",
        ] {
            assert!(check.contains(wanted), "{wanted}\n{check}");
        }
        assert!(page("pullgate-policy-match.1").contains(".SH SYNOPSIS\npullgate policy match [OPTIONS] <IMAGES>..."));
        for shell in clap_complete::Shell::value_variants() {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command(), "pullgate", &mut text);
            assert!(String::from_utf8_lossy(&text).contains("prefetch"), "{shell}");
        }
    }
}
