//! Variables of the environment that set arguments, and when they do not count.

use std::ffi::OsStr;

use clap::builder::Resettable;
use clap::{Arg, Command};

/// The command line without the variables that are set to an empty text, as Compose and CI systems set those that have
/// no value.
pub(super) fn without_empty(command: Command, is_empty: &dyn Fn(&OsStr) -> bool) -> Command {
    without(command, &|argument| argument.get_env().is_some_and(is_empty))
}

/// The command line without the variable that names a gate.
pub(super) fn without_server(command: Command) -> Command {
    without(command, &|argument| argument.get_id() == "server")
}

/// The command line in which no variable sets these arguments.
fn without(command: Command, is_one: &dyn Fn(&Arg) -> bool) -> Command {
    let ids: Vec<_> = command.get_arguments().filter(|one| is_one(one)).map(|one| one.get_id().clone()).collect();
    let reset = |command: Command, id| command.mut_arg(id, |argument| argument.env(Resettable::Reset));
    let command = ids.into_iter().fold(command, reset);
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    let inner = |command: Command, name| command.mut_subcommand(name, |inner| without(inner, is_one));
    names.into_iter().fold(command, inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables that still set something.
    fn variables(command: &Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(Arg::get_env).map(|name| name.to_string_lossy().into_owned());
        let inner = command.get_subcommands().flat_map(variables);
        own.chain(inner).collect()
    }

    #[test]
    fn empty_variables_count_as_not_set() {
        let left = variables(&without_empty(crate::cli::command(), &|name| name == "PULLGATE_SERVER"));
        assert!(!left.contains(&"PULLGATE_SERVER".to_owned()), "{left:?}");
        assert!(left.contains(&"PULLGATE_CONFIG".to_owned()) && left.contains(&"PULLGATE_TOKEN_FILE".to_owned()));
        assert!(!variables(&without_server(crate::cli::command())).contains(&"PULLGATE_SERVER".to_owned()));
    }
}
