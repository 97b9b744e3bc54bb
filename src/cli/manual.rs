//! `pullgate completions SHELL` and `pullgate man DIR`: both are made from the arguments themselves.

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
    let written = std::fs::create_dir_all(&args.directory)
        .and_then(|()| clap_mangen::generate_to(command().disable_help_subcommand(true), &args.directory));
    match written {
        Ok(()) => {
            eprintln!("pullgate: manual pages are in {}", shown(&args.directory));
            Exit::Ok
        }
        Err(error) => fail(format!("{}: cannot write the manual pages: {error}", shown(&args.directory))),
    }
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
            assert!(page.exists(), "{}", page.display());
        }
        for shell in clap_complete::Shell::value_variants() {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command(), "pullgate", &mut text);
            assert!(String::from_utf8_lossy(&text).contains("prefetch"), "{shell}");
        }
    }
}
