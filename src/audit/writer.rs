//! The thread that writes records, and what it reports.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::TOPIC;
use super::file::RotatingFile;
use super::queue::{Queue, TakenLines, Work};
use crate::runtime::{BlockReady, LogLimit, Readiness};

/// How often it is tried whether records can be written again.
const PROBE: Duration = Duration::from_secs(5);
/// How often it is checked whether the disk answers.
const TICK: Duration = Duration::from_secs(1);
/// After so many ticks without an answer, the disk hangs. A suspension of the process counts as one tick.
const HANGING: u32 = 10;

/// Runs on a dedicated thread until it is closed, and writes everything that was queued. Records that arrive during a
/// write are written together, so that under load a record costs neither a system call nor a wake-up.
///
/// While the gate is not ready because records cannot be written, it gets no requests whose records would show that
/// they can be written again. Then the file is probed.
pub(super) fn write_all(mut file: RotatingFile, outcome: &WriteReporter) {
    let (queue, mut taken) = (&outcome.queue, TakenLines::default());
    loop {
        let is_blocked = outcome.is_blocked();
        let limit = is_blocked.then_some(PROBE);
        let Some(Work { reopen, close }) = queue.take_within(limit, &mut taken) else {
            outcome.probed(&mut file);
            continue;
        };
        if !reopen.is_empty() {
            let reopened = outcome.on_disk(|| file.reopen());
            match &reopened {
                Ok(()) if is_blocked => outcome.probed(&mut file),
                Ok(()) => outcome.reopened(file.problem()),
                Err(why) => {
                    tracing::error!("{why}");
                    outcome.reopened(file.problem());
                }
            }
            // The receiver is gone if the caller has stopped waiting.
            reopen.iter().for_each(|done| _ = done.send(reopened.clone()));
        }
        write_lines(&mut file, &mut taken, outcome);
        if let Some(closed) = close {
            // Lines may have come while the last ones were written.
            queue.end(&mut taken);
            write_lines(&mut file, &mut taken, outcome);
            let _ = closed.send(());
            outcome.state().has_ended = true;
            return;
        }
    }
}

fn write_lines(file: &mut RotatingFile, taken: &mut TakenLines, outcome: &WriteReporter) {
    if taken.lines.is_empty() {
        return;
    }
    let lines = &*taken.lines;
    let written = outcome.on_disk(|| file.write(lines));
    match &written {
        Ok(()) => outcome.works(file.problem()),
        Err((error, left)) => outcome.failed(error, left),
    }
    for done in taken.waiting.drain(..) {
        // The receiver is gone if the client has disconnected.
        let _ = done.send(written.is_ok());
    }
}

/// Notices when the disk does not answer the writer, and ends with it.
pub(super) async fn notice_hangs(outcome: Arc<WriteReporter>) {
    let (mut last, mut ticks) = (0, 0);
    loop {
        tokio::time::sleep(TICK).await;
        let Some(step) = outcome.step() else { return };
        ticks = if step == last { ticks + 1 } else { 0 };
        last = step;
        if step > 0 && ticks >= HANGING {
            outcome.hangs_in(step);
        }
    }
}

/// Reports whether records can be written.
pub(super) struct WriteReporter {
    queue: Arc<Queue>,
    lost: Counter,
    readiness: Readiness,
    required: bool,
    /// Each request can cause a failure, and the log may be on the same disk.
    failures: LogLimit,
    state: Mutex<WriterState>,
}

#[derive(Default)]
struct WriterState {
    /// Counts what was asked of the disk.
    steps: u64,
    /// Whether the disk has not answered yet.
    is_waiting: bool,
    /// Whether that takes too long.
    hangs: bool,
    /// Whether the last write failed.
    fails: bool,
    /// What is wrong with the file.
    problem: Option<String>,
    /// Held while records cannot be written, if they are required: then every pull is refused, and another gate can do
    /// better.
    blocked: Option<BlockReady>,
    has_ended: bool,
}

impl WriteReporter {
    pub(super) fn new(queue: Arc<Queue>, lost: Counter, readiness: Readiness, required: bool) -> Self {
        let failures = LogLimit::new(5, Duration::from_secs(60));
        Self { queue, lost, readiness, required, failures, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, WriterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what may have to wait for the disk.
    fn on_disk<T>(&self, work: impl FnOnce() -> T) -> T {
        {
            let mut state = self.state();
            state.steps += 1;
            state.is_waiting = true;
        }
        let done = work();
        let mut state = self.state();
        state.is_waiting = false;
        if std::mem::take(&mut state.hangs) {
            tracing::info!("the disk that holds the audit file answers again");
            self.queue.set_hangs(false);
            self.show(&mut state);
        }
        done
    }

    /// The number of the last write that the disk was asked for; 0 if it has answered, `None` if the writer has ended.
    fn step(&self) -> Option<u64> {
        let state = self.state();
        if state.has_ended { None } else { Some(if state.is_waiting { state.steps } else { 0 }) }
    }

    /// Reports that the disk hangs, unless it has answered meanwhile.
    fn hangs_in(&self, step: u64) {
        let mut state = self.state();
        if !state.is_waiting || state.steps != step || state.hangs {
            return;
        }
        state.hangs = true;
        tracing::error!("cannot record decisions: the disk that holds the audit file does not answer");
        self.show(&mut state);
        self.queue.set_hangs(true);
    }

    /// Whether the gate is not ready because a write failed.
    fn is_blocked(&self) -> bool {
        self.state().blocked.is_some()
    }

    /// Shows the state in `/readyz`.
    fn show(&self, state: &mut WriterState) {
        let hangs = || "decisions cannot be recorded: the disk that holds the audit file does not answer".to_owned();
        self.readiness.degraded(TOPIC, if state.hangs { Some(hangs()) } else { state.problem.clone() });
        let must_block = self.required && (state.fails || state.hangs);
        if must_block != state.blocked.is_some() {
            state.blocked = must_block.then(|| self.readiness.block(TOPIC));
        }
    }

    /// Reports that lines are written, and what is wrong with their file.
    fn works(&self, problem: Option<String>) {
        let mut state = self.state();
        (state.fails, state.problem) = (false, problem);
        self.show(&mut state);
    }

    /// Reports what is wrong with the file after an attempt to reopen it. Whether lines can be written is not known by
    /// that.
    fn reopened(&self, problem: Option<String>) {
        let mut state = self.state();
        if !state.fails {
            state.problem = problem;
            self.show(&mut state);
        }
    }

    fn probed(&self, file: &mut RotatingFile) {
        match self.on_disk(|| file.probe()) {
            Ok(()) => {
                tracing::info!("decisions can be recorded again");
                self.works(file.problem());
            }
            Err(error) => self.fails(&error),
        }
    }

    /// Reports an error and the lines that were not written.
    fn failed(&self, error: &io::Error, left: &[u8]) {
        let records = left.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost.inc_by(records);
        if let Some(omitted) = self.failures.admit() {
            let text = "cannot record decisions; check the disk that holds the audit file";
            tracing::error!(%error, records, omitted, "{text}");
        }
        self.fails(error);
    }

    fn fails(&self, error: &io::Error) {
        let mut state = self.state();
        (state.fails, state.problem) = (true, Some(format!("decisions cannot be recorded: {error}")));
        self.show(&mut state);
    }
}
