//! Logging to standard error.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, reload};

/// The prefix of the program's own modules in log filters.
const PROGRAM: &str = "pullgate";
/// How long log lines below warning level are buffered.
const DELAY: Duration = Duration::from_millis(20);
/// When the buffer reaches this size, in bytes, it is written without this delay.
const WRITTEN_AT_ONCE: usize = 256 * 1024;
/// The maximum size of the buffer, in bytes. Further lines are dropped, so that a log without a reader does not exhaust
/// memory.
const MAX_BUFFERED: usize = 4 << 20;
/// How long a warning or an error waits to be written before the program continues.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The maximum number of bytes that are logged of a panic's message, and of its backtrace.
const MAX_PANIC: usize = 16 * 1024;

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

/// Whether a log filter hides the errors of the program, unless that is what it is for: `off`. A misspelt level is the
/// name of a part that does not exist, and a filter without a level hides what it does not name.
pub fn hides_errors(filter: &str) -> bool {
    // A filter with spans is written by someone who knows the syntax.
    let targets = filter.parse::<Targets>();
    !filter.eq_ignore_ascii_case("off") && targets.is_ok_and(|all| !all.would_enable(PROGRAM, &Level::ERROR))
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
    std::thread::spawn(move || writer.write_until_end(&mut io::stderr()));
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
    log_panics();
    Ok(LogGuard(lines))
}

/// Writes panics to the log. By default they go to standard error directly, where a reader that has stopped would
/// block the panicking thread forever, along with whatever it has locked.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        let message = panic_message(panic.payload());
        // Empty, unless the environment asks for one (RUST_BACKTRACE).
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            let backtrace = shortened(&backtrace.to_string());
            tracing::error!(location, thread, message, backtrace, "a thread has panicked; this is a bug in pullgate");
        } else {
            tracing::error!(location, thread, message, "a thread has panicked; this is a bug in pullgate");
        }
    }));
}

fn panic_message(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    shortened(text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message"))
}

/// At most [`MAX_PANIC`] bytes.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_PANIC {
        text.to_owned()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(MAX_PANIC)])
    }
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
        // Whoever reads may only be slow.
        self.0.lock().is_stuck = false;
        self.0.wait(LAST_LINES);
    }
}

/// Complete lines waiting to be written to standard error. A busy gate logs tens of thousands per second, and one
/// system call per line would cost as much as the response that the line describes. Only one thread writes: a terminal
/// or a log driver that stops reading would otherwise stop every thread that logs, and with them all pulls.
#[derive(Default)]
struct Lines {
    state: Mutex<LinesState>,
    /// Wakes the writing thread.
    come: Condvar,
    /// Wakes threads that wait for what they logged.
    written: Condvar,
    writer: OnceLock<ThreadId>,
}

#[derive(Default)]
struct LinesState {
    gathered: Vec<u8>,
    /// Whether the lines must be written without a delay.
    is_urgent: bool,
    /// The number of bytes that were gathered, and how many of them were written.
    added: u64,
    written: u64,
    /// Lines for which there was no room.
    dropped: u64,
    /// Whether a thread has waited as long as it may. No thread waits again before something is written.
    is_stuck: bool,
}

impl Lines {
    fn add(&self, line: &[u8], is_urgent: bool) {
        let mut state = self.lock();
        if state.gathered.len() + line.len() > MAX_BUFFERED {
            state.dropped += 1;
            return;
        }
        let is_first = state.gathered.is_empty();
        state.gathered.extend_from_slice(line);
        state.added += line.len() as u64;
        let is_due = is_urgent || state.gathered.len() > WRITTEN_AT_ONCE;
        state.is_urgent |= is_due;
        drop(state);
        if is_first || is_due {
            self.come.notify_one();
        }
        if is_urgent && self.writer.get() != Some(&std::thread::current().id()) {
            self.wait(PATIENCE);
        }
    }

    /// Waits until everything that was logged is written, unless writing has stopped.
    fn wait(&self, limit: Duration) {
        let state = self.lock();
        let until = state.added;
        let is_waiting = |state: &mut LinesState| state.written < until && !state.is_stuck;
        let waited = self.written.wait_timeout_while(state, limit, is_waiting);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_stuck |= waited.timed_out();
    }

    /// Writes everything, on a thread of its own.
    fn write_until_end(&self, output: &mut impl Write) {
        let _ = self.writer.set(std::thread::current().id());
        loop {
            let some = self.come.wait_while(self.lock(), |state| state.gathered.is_empty());
            let some = some.unwrap_or_else(PoisonError::into_inner);
            let due = self.come.wait_timeout_while(some, DELAY, |state| !state.is_urgent);
            let (mut state, _) = due.unwrap_or_else(PoisonError::into_inner);
            let (lines, until) = (std::mem::take(&mut state.gathered), state.added);
            state.is_urgent = false;
            drop(state);
            // If standard error is closed, there is nowhere to report it.
            let _ = output.write_all(&lines);
            let mut state = self.lock();
            state.written = until;
            state.is_stuck = false;
            let dropped = std::mem::take(&mut state.dropped);
            drop(state);
            self.written.notify_all();
            if dropped > 0 {
                tracing::warn!(lines = dropped, "log lines are missing here: standard error was not read");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, LinesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a writer for each line. Warnings and errors are written before the program continues, if they can be.
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// Waits for permission before each write, and passes on what was written.
    struct Held(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Held {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(lines.to_vec());
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn filters_that_hide_errors_are_known() {
        for filter in
            ["verbose", "inf", "pulgate=debug", "hyper=warn,h2=warn", "pullgate=off,warn", "pullgate::server=debug"]
        {
            assert!(hides_errors(filter), "{filter}");
        }
        for filter in ["info", "error", "off", "", "pullgate=debug", "pullgate::server=debug,warn", "hyper=off,info"] {
            assert!(!hides_errors(filter), "{filter}");
        }
    }

    #[test]
    fn the_message_of_a_panic_is_bounded() {
        let caught = |panic: Box<dyn FnOnce() + Send>| std::thread::spawn(panic).join().unwrap_err();
        assert_eq!(panic_message(&*caught(Box::new(|| panic!("a text")))), "a text");
        assert_eq!(panic_message(&*caught(Box::new(|| panic!("a number: {}", 1)))), "a number: 1");
        assert_eq!(panic_message(&1), "no message");
        let long = panic_message(&"ü".repeat(MAX_PANIC));
        assert!(long.len() <= MAX_PANIC + '…'.len_utf8() && long.ends_with('…'));
    }

    #[test]
    fn an_unread_log_does_not_block_the_program() {
        let lines = Arc::new(Lines::default());
        let (permit, held) = mpsc::channel();
        let (out, written) = mpsc::channel();
        let writer = lines.clone();
        std::thread::spawn(move || writer.write_until_end(&mut Held(held, out)));
        lines.add(b"urgent\n", true);
        assert!(lines.lock().is_stuck, "the first one waits in vain, the others do not wait");
        let line = [b'x'; 1 << 16];
        (0..100).for_each(|_| lines.add(&line, true));
        assert_eq!(lines.lock().gathered.len(), MAX_BUFFERED);
        assert_eq!(lines.lock().dropped, 100 - (MAX_BUFFERED / line.len()) as u64);
        permit.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), b"urgent\n");
        drop(permit);
        assert_eq!(written.recv().unwrap().len(), MAX_BUFFERED);
        lines.add(b"last\n", true);
        assert_eq!(written.recv().unwrap(), b"last\n", "it is written before the program continues");
    }
}
