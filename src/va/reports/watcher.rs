//! Follows the changes of directories.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Reports;
use crate::runtime::Tasks;

/// How long a directory must be quiet before it is looked through, so that files being written are whole.
const QUIET: Duration = Duration::from_millis(100);
/// How long changes are waited for that do not end.
const LONGEST: Duration = Duration::from_secs(2);

/// Set before the first look through the directories.
pub(super) struct Watcher {
    wake: Arc<Notify>,
    /// Dropping it ends the watch. `None` where the system has none to give: then only the rescan finds changes.
    inner: Option<RecommendedWatcher>,
    directories: Vec<PathBuf>,
}

impl Watcher {
    pub(super) fn new(directories: &[PathBuf]) -> Self {
        let wake = Arc::new(Notify::new());
        let woken = wake.clone();
        // An event that is lost (the queue overflows) comes as an error, and is a reason to look too.
        let changes = |event: &notify::Event| !matches!(event.kind, notify::EventKind::Access(_));
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, changes) {
                woken.notify_one();
            }
        });
        let inner = inner
            .inspect_err(|error| tracing::warn!(%error, "vulnerability reports cannot be watched, only rescanned"))
            .ok();
        let mut watcher = Self { wake, inner, directories: directories.to_vec() };
        watcher.watch();
        watcher
    }

    /// Also sets again the watch of a directory that was not there, or that was replaced by another of its name.
    fn watch(&mut self) {
        let Some(inner) = &mut self.inner else { return };
        for directory in &self.directories {
            // One that cannot be watched cannot be read either, which the scan tells.
            let _ = inner.watch(directory, RecursiveMode::Recursive);
        }
    }

    /// Looks again after every change, and every `rescan`, until shutdown.
    pub(super) async fn follow(mut self, reports: Reports, rescan: Duration, tasks: Tasks) {
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                () = self.wake.notified() => self.settle().await,
                () = tokio::time::sleep(rescan) => self.watch(),
            }
            reports.scan(&tasks).await;
        }
    }

    async fn settle(&self) {
        let end = Instant::now() + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(end);
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(quiet) => return,
            }
            if Instant::now() >= end {
                return;
            }
        }
    }
}
