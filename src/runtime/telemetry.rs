//! Logging to standard error.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, reload};

/// How long log lines below warning level are buffered.
const DELAY: Duration = Duration::from_millis(20);
/// When the buffer reaches this size, in bytes, the logging thread writes it, so that the log cannot exhaust memory.
const MAX_BUFFERED: usize = 256 * 1024;

/// Replaces the filter.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Replaces the filter, once logging is initialised.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    #[default]
    Text,
}

/// Whether a log filter can be parsed.
///
/// # Errors
/// What is wrong with it.
pub fn check_log_filter(filter: &str) -> Result<(), String> {
    EnvFilter::builder().parse(filter).map(drop).map_err(|error| error.to_string())
}

/// Initialises logging. `filter` uses tracing's syntax: `info`, `pullgate=debug,warn`. Buffered lines are written when
/// the guard is dropped, if not before.
///
/// # Errors
/// Logging is already initialised.
pub fn init(filter: &str, format: LogFormat, colour: bool) -> Result<LogGuard, TryInitError> {
    let lines = Arc::new(Lines::default());
    let writer = lines.clone();
    // Not a tracked task: it must outlive the runtime to write its last lines.
    std::thread::spawn(move || writer.write_until_end());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(BufferedLog(lines.clone()))
        .with_ansi(colour)
        .with_target(false);
    match format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            keep_filter(builder.reload_handle());
            builder.finish().try_init()?;
        }
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            keep_filter(builder.reload_handle());
            builder.finish().try_init()?;
        }
    }
    Ok(LogGuard(lines))
}

fn keep_filter<S: 'static>(handle: reload::Handle<EnvFilter, S>) {
    let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    // Fails only if logging is already initialised.
    let _ = SET_FILTER.set(Box::new(set));
}

/// Replaces the filter of the process's log. Without a log, there is nothing to replace.
///
/// # Errors
/// Why it is not a filter.
pub fn set_log_filter(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    SET_FILTER.get().map_or(Ok(()), |set| set(filter))
}

/// Writes buffered log lines when it is dropped.
pub struct LogGuard(Arc<Lines>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Complete lines waiting to be written to standard error. A busy gate logs tens of thousands per second, and one
/// system call per line would cost as much as the response that the line describes.
#[derive(Default)]
struct Lines {
    gathered: Mutex<Vec<u8>>,
    /// Held while writing, so that lines stay in order and loggers need not wait for the write.
    writing: Mutex<()>,
    come: Condvar,
}

impl Lines {
    fn add(&self, line: &[u8], is_urgent: bool) {
        let mut gathered = self.lock();
        let is_first = gathered.is_empty();
        gathered.extend_from_slice(line);
        let is_full = gathered.len() > MAX_BUFFERED;
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
        // If standard error is closed, there is nowhere to report it.
        let _ = io::stderr().write_all(&lines);
    }

    fn write_until_end(&self) {
        loop {
            let some = self.come.wait_while(self.lock(), |gathered| gathered.is_empty());
            drop(some);
            std::thread::sleep(DELAY);
            self.flush();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a writer for each line. Warnings and errors are written before the program continues.
struct BufferedLog(Arc<Lines>);

struct Line<'a> {
    lines: &'a Lines,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for BufferedLog {
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
