//! What commands do if their output is not read, or cannot be written.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::commands::text;
use crate::support::temp_dir;

/// A document without a name.
const WRONG: &str = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\n";

fn pullgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pullgate"))
}

/// Runs a command whose standard output nobody reads.
fn unread(command: &mut Command) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn();
    child.expect("it starts").wait_with_output().expect("it ends")
}

#[test]
fn commands_keep_their_exit_code_if_their_output_is_not_read() {
    let completions = unread(pullgate().args(["completions", "bash"]));
    assert_eq!((completions.status.code(), text(&completions)), (Some(0), String::new()));
    let folder = temp_dir();
    fs::write(folder.path().join("wrong.yaml"), WRONG).expect("a file");
    let wrong = unread(pullgate().args(["policy", "check"]).arg(folder.path()));
    assert_eq!((wrong.status.code(), text(&wrong)), (Some(2), String::new()));
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = pullgate().args(["completions", "bash"]).stdout(full).stderr(Stdio::piped()).spawn();
    let output = output.expect("it starts").wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).starts_with("pullgate: cannot write to standard output: "), "{}", text(&output));
}

#[test]
fn numbers_have_the_noun_that_fits() {
    let folder = temp_dir();
    let policy = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: one}\nspec: {repositories: [{name: \"*\"}]}\n";
    fs::write(folder.path().join("one.yaml"), policy).expect("a file");
    let one = pullgate().args(["policy", "check"]).arg(folder.path()).output().expect("it runs");
    assert!(text(&one).ends_with("1 policy with 1 entry: 0 errors, 0 warnings\n"), "{}", text(&one));
    fs::write(folder.path().join("two.yaml"), WRONG).expect("a file");
    let wrong = pullgate().args(["policy", "check"]).arg(folder.path()).output().expect("it runs");
    assert!(text(&wrong).contains("1 error, "), "{}", text(&wrong));
}
