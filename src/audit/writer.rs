//! The thread that writes records, and what it reports.

use std::io;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::TOPIC;
use super::file::RotatingFile;
use super::queue::{Queue, TakenLines, Work};
use crate::runtime::{BlockReady, Readiness};

/// How often it is tried whether records can be written again.
const PROBE: Duration = Duration::from_secs(5);

/// Runs on a dedicated thread until it is closed, and writes everything that was queued. Records that arrive during a
/// write are written together, so that under load a record costs neither a system call nor a wake-up.
///
/// While the gate is not ready because records cannot be written, it gets no requests whose records would show that they can
/// be written again. Then the file is probed.
pub(super) fn write_all(mut file: RotatingFile, queue: &Queue, mut outcome: WriteReporter) {
    let mut taken = TakenLines::default();
    loop {
        let is_blocked = outcome.blocked.is_some();
        let limit = is_blocked.then_some(PROBE);
        let Some(Work { reopen, close }) = queue.take_within(limit, &mut taken) else {
            outcome.probed(&mut file);
            continue;
        };
        if !reopen.is_empty() {
            let reopened = file.reopen();
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
        write_lines(&mut file, &mut taken, &mut outcome);
        if let Some(closed) = close {
            // Lines may have come while the last ones were written.
            queue.end(&mut taken);
            write_lines(&mut file, &mut taken, &mut outcome);
            let _ = closed.send(());
            return;
        }
    }
}

fn write_lines(file: &mut RotatingFile, taken: &mut TakenLines, outcome: &mut WriteReporter) {
    let lines = &*taken.lines;
    let written = file.write(lines);
    match &written {
        Ok(()) if lines.is_empty() => {}
        Ok(()) => outcome.works(file.problem()),
        Err((error, left)) => outcome.failed(error, left),
    }
    for done in taken.waiting.drain(..) {
        // The receiver is gone if the client has disconnected.
        let _ = done.send(written.is_ok());
    }
}

/// Reports whether records can be written.
pub(super) struct WriteReporter {
    lost: Counter,
    readiness: Readiness,
    required: bool,
    /// Held while the last write failed, if records are required: then every pull is refused, and another gate can do better.
    blocked: Option<BlockReady>,
    /// Whether the last write failed.
    fails: bool,
}

impl WriteReporter {
    pub(super) fn new(lost: Counter, readiness: Readiness, required: bool) -> Self {
        Self { lost, readiness, required, blocked: None, fails: false }
    }

    /// Reports that lines are written, and what is wrong with their file.
    fn works(&mut self, problem: Option<String>) {
        (self.blocked, self.fails) = (None, false);
        self.readiness.degraded(TOPIC, problem);
    }

    /// Reports what is wrong with the file after an attempt to reopen it. Whether lines can be written is not known by that.
    fn reopened(&self, problem: Option<String>) {
        if !self.fails {
            self.readiness.degraded(TOPIC, problem);
        }
    }

    fn probed(&mut self, file: &mut RotatingFile) {
        match file.probe() {
            Ok(()) => {
                tracing::info!("decisions can be recorded again");
                self.works(file.problem());
            }
            Err(error) => self.readiness.degraded(TOPIC, Some(unrecorded(&error))),
        }
    }

    /// Reports an error and the lines that were not written.
    fn failed(&mut self, error: &io::Error, left: &[u8]) {
        self.fails = true;
        let records = left.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost.inc_by(records);
        tracing::error!(%error, records, "cannot record decisions; check the disk that holds the audit file");
        self.readiness.degraded(TOPIC, Some(unrecorded(error)));
        if self.required && self.blocked.is_none() {
            self.blocked = Some(self.readiness.block(TOPIC));
        }
    }
}

fn unrecorded(error: &io::Error) -> String {
    format!("decisions cannot be recorded: {error}")
}
