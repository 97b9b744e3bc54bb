//! What the service manager is told, by systemd's protocol
//! ([sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)). Without `NOTIFY_SOCKET`, nothing
//! happens.

use std::time::Duration;

use sd_notify::NotifyState;

use super::Tasks;

/// Says that the process serves, or that a reload has ended, and what it does. `status` is one line for people.
pub fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that a reload has begun.
pub fn notify_reloading() {
    // systemd compares the time with that of its request; without it, the reload is not waited for.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]);
    }
}

/// Says that the process stops. `status` is one line for people.
pub fn notify_stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Says at an interval that the process is alive, if the service manager wants to know (`WatchdogSec`). Until `tasks` stop.
pub async fn keep_watchdog(tasks: Tasks) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let interval = (limit / 2).max(Duration::from_millis(10));
    let stopping = tasks.stopping();
    let mut stopping = std::pin::pin!(stopping);
    loop {
        notify(&[NotifyState::Watchdog]);
        if tokio::time::timeout(interval, stopping.as_mut()).await.is_ok() {
            return;
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
