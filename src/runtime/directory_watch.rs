//! Watches directories for changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// The time without changes after which a change is reported, so that files are completely written before they are
/// read. Editors and `kubectl` write several files for one change.
const QUIET: Duration = Duration::from_millis(200);
/// The maximum delay before a change is reported, even if more changes keep arriving.
const LONGEST: Duration = Duration::from_secs(2);

/// Reports that something in or below some directories may have changed.
///
/// Not every file system reports changes, and a directory can be replaced by another one with the same name. The caller
/// therefore also reads at intervals: see [`changed`](Self::changed).
pub struct DirectoryWatch {
    wake: Arc<Notify>,
    /// Dropping it ends the watch. `None` if the system does not support watches; then changes are found only at
    /// intervals.
    watcher: Option<RecommendedWatcher>,
    directories: Vec<PathBuf>,
}

impl DirectoryWatch {
    /// Starts watching. Must be called before the first read, so that no change after that read is missed. `what` names
    /// the content in the log, for example `policies`.
    pub fn new(directories: &[impl AsRef<Path>], what: &'static str) -> Self {
        let wake = Arc::new(Notify::new());
        let woken = wake.clone();
        // A lost event (queue overflow) arrives as an error, and also requires a new read.
        let is_change = |event: &notify::Event| !matches!(event.kind, notify::EventKind::Access(_));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, is_change) {
                woken.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, what, "cannot watch directories; reading them at intervals"))
            .ok();
        let directories = directories.iter().map(|directory| directory.as_ref().to_owned()).collect();
        let mut watch = Self { wake, watcher, directories };
        watch.watch();
        watch
    }

    /// Adds watches, also for directories that did not exist before or were replaced.
    pub fn watch(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for directory in &self.directories {
            // A directory that cannot be watched cannot be read either, and the caller reports that error.
            let _ = watcher.watch(directory, RecursiveMode::Recursive);
        }
    }

    /// Returns after a change when the directories are quiet again, and at the latest after `interval`.
    pub async fn changed(&mut self, interval: Duration) {
        tokio::select! {
            () = self.wake.notified() => self.settle().await,
            () = sleep(interval) => self.watch(),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    /// Longer than the duration of any test, so only a change ends the wait.
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn change_below_a_directory_is_reported_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("below")).unwrap();
        let mut watch = DirectoryWatch::new(&[root.path()], "test");
        fs::write(root.path().join("below/a"), "1").unwrap();
        fs::write(root.path().join("b"), "2").unwrap();
        timeout(Duration::from_secs(10), watch.changed(NEVER)).await.expect("the change is reported");
        assert!(timeout(QUIET * 3, watch.changed(NEVER)).await.is_err(), "two writes are reported as one change");
        fs::read(root.path().join("b")).unwrap();
        assert!(timeout(QUIET * 3, watch.changed(NEVER)).await.is_err(), "a read is not a change");
    }

    #[tokio::test]
    async fn directory_created_later_is_watched_after_the_next_interval() {
        let root = tempfile::tempdir().unwrap();
        let later = root.path().join("later");
        let mut watch = DirectoryWatch::new(&[&later], "test");
        fs::create_dir(&later).unwrap();
        watch.changed(Duration::from_millis(10)).await;
        fs::write(later.join("a"), "1").unwrap();
        timeout(Duration::from_secs(10), watch.changed(NEVER)).await.expect("the change is reported");
    }
}
