//! Watches directories for changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// How long directories must be quiet before a change is reported, so that a file being written is complete when it is
/// read. Editors and `kubectl` write several files for one change.
const QUIET: Duration = Duration::from_millis(200);
/// A change is reported after this time at the latest, even when more changes keep arriving.
const LONGEST: Duration = Duration::from_secs(2);

/// Reports that something in some directories, or below them, may have changed.
///
/// Not every file system reports changes, and a directory may be replaced by another of the same name, so the caller
/// reads again at intervals too: see [`changed`](Self::changed).
pub struct DirectoryWatch {
    wake: Arc<Notify>,
    /// Dropping it ends the watch. `None` if the system offers none: then only the interval finds changes.
    watcher: Option<RecommendedWatcher>,
    directories: Vec<PathBuf>,
}

impl DirectoryWatch {
    /// Starts watching. Call this before the first read, so that no change after that read is missed. `what` names the
    /// content in the log, for example `policies`.
    pub fn new(directories: &[impl AsRef<Path>], what: &'static str) -> Self {
        let wake = Arc::new(Notify::new());
        let woken = wake.clone();
        // A lost event (an overflowing queue) arrives as an error, and is a reason to read again too.
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

    /// Also renews the watch of a directory that did not exist before, or that was replaced.
    fn watch(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for directory in &self.directories {
            // A directory that cannot be watched cannot be read either, and the caller reports that.
            let _ = watcher.watch(directory, RecursiveMode::Recursive);
        }
    }

    /// Returns after a change, once the directories are quiet again, and after `interval` in any case.
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

    /// Longer than any test may take: only a change ends the wait.
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_change_below_a_directory_is_reported_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("below")).unwrap();
        let mut watch = DirectoryWatch::new(&[root.path()], "test");
        fs::write(root.path().join("below/a"), "1").unwrap();
        fs::write(root.path().join("b"), "2").unwrap();
        timeout(Duration::from_secs(10), watch.changed(NEVER)).await.expect("the change is reported");
        assert!(timeout(QUIET * 3, watch.changed(NEVER)).await.is_err(), "two writes are one change");
        fs::read(root.path().join("b")).unwrap();
        assert!(timeout(QUIET * 3, watch.changed(NEVER)).await.is_err(), "reading changes nothing");
    }

    #[tokio::test]
    async fn a_directory_that_appears_later_is_watched_from_the_next_interval_on() {
        let root = tempfile::tempdir().unwrap();
        let later = root.path().join("later");
        let mut watch = DirectoryWatch::new(&[&later], "test");
        fs::create_dir(&later).unwrap();
        watch.changed(Duration::from_millis(10)).await;
        fs::write(later.join("a"), "1").unwrap();
        timeout(Duration::from_secs(10), watch.changed(NEVER)).await.expect("the change is reported");
    }
}
