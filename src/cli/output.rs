//! Standard output and standard error of commands.
//!
//! `print`, `println` and `eprintln` replace the macros of the standard library in all commands: those panic if the
//! reader of a pipe has gone, as in `pullgate images | head -1`. Here the rest is dropped silently, and the command
//! still ends with its exit code. Any other failure, such as a full disk, makes the command fail at its end.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::OnceLock;

use super::Exit;
pub(super) use crate::runtime::counted;

/// Prints to standard output.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::write_out(format_args!($($text)*)) };
}

/// Prints a line to standard output.
macro_rules! println {
    () => { $crate::cli::output::write_out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::write_out(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line to standard error.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output::write_err(format_args!("{}\n", format_args!($($text)*))) };
}

/// The first failure to write to standard output.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// A stream that accepts everything, even after its reader has gone.
pub(super) struct Stream<W>(W);

/// Standard output.
pub(super) fn stdout() -> Stream<io::Stdout> {
    Stream(io::stdout())
}

/// Standard error.
pub(super) fn stderr() -> Stream<io::Stderr> {
    Stream(io::stderr())
}

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).or_else(|error| unread(error, bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or_else(|error| unread(error, ()))
    }
}

/// Turns a broken pipe into success; any other error stays an error.
fn unread<T>(error: io::Error, done: T) -> io::Result<T> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(done) } else { Err(error) }
}

/// What `print` does.
pub(super) fn write_out(text: Arguments<'_>) {
    if let Err(error) = stdout().write_fmt(text) {
        let _ = FAILURE.set(error);
    }
}

/// What `eprintln` does. If standard error cannot be written, there is nowhere to say so.
pub(super) fn write_err(text: Arguments<'_>) {
    let _ = stderr().write_fmt(text);
}

/// The exit code of a command that ends with this one, once everything is written.
pub(super) fn finish(exit: Exit) -> Exit {
    if let Err(error) = stdout().flush() {
        let _ = FAILURE.set(error);
    }
    match FAILURE.get() {
        Some(error) => super::fail(format!("cannot write to standard output: {error}")),
        None => exit,
    }
}

/// Prints a value as indented JSON.
pub(super) fn print_json(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}
