//! Logging to stderr.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How long lines that are not urgent are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// When so many bytes are gathered, whoever logs writes them: the log is never what fills the memory.
const MAX_GATHERED: usize = 256 * 1024;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// Starts logging. `filter` is in tracing's own syntax: `info`, `pullgate=debug,warn`. What was logged is written at the
/// latest when the guard is dropped.
///
/// # Errors
/// When logging was started before.
pub fn init(filter: &str, format: LogFormat, colour: bool) -> Result<LogGuard, TryInitError> {
    let lines = Arc::new(Lines::default());
    let writer = lines.clone();
    // Not a task: it outlives the runtime, whose last words it writes.
    std::thread::spawn(move || writer.write_until_end());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(Gathered(lines.clone()))
        .with_ansi(colour)
        .with_target(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
        LogFormat::Text => builder.finish().try_init()?,
    }
    Ok(LogGuard(lines))
}

/// Writes what was logged when it is dropped.
pub struct LogGuard(Arc<Lines>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Whole lines on their way to stderr. A busy gate logs some ten thousand a second, and a system call for each would
/// cost as much as the answer that it tells of.
#[derive(Default)]
struct Lines {
    gathered: Mutex<Vec<u8>>,
    /// Held while writing, so that what is logged meanwhile waits for nobody and nothing changes places.
    writing: Mutex<()>,
    come: Condvar,
}

impl Lines {
    fn add(&self, line: &[u8], is_urgent: bool) {
        let mut gathered = self.lock();
        let is_first = gathered.is_empty();
        gathered.extend_from_slice(line);
        let is_full = gathered.len() > MAX_GATHERED;
        drop(gathered);
        if is_urgent || is_full {
            self.flush();
        } else if is_first {
            self.come.notify_one();
        }
    }

    fn flush(&self) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut *self.lock());
        // There is nowhere to say that standard error is closed.
        let _ = io::stderr().write_all(&lines);
    }

    fn write_until_end(&self) {
        loop {
            let some = self.come.wait_while(self.lock(), |gathered| gathered.is_empty());
            drop(some);
            std::thread::sleep(GATHER);
            self.flush();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes writers of single lines. Warnings and errors are written before the program goes on.
struct Gathered(Arc<Lines>);

struct Line<'a> {
    lines: &'a Lines,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for Gathered {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: &self.0, is_urgent: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { lines: &self.0, is_urgent: *metadata.level() <= Level::WARN }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.add(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
