//! Limits how often a message is logged, so that clients that cause it cannot flood the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Admits a number of log lines in each window of time.
#[derive(Debug)]
pub struct LogLimit {
    lines: u32,
    window: Duration,
    state: Mutex<LogLimitState>,
}

#[derive(Debug, Default)]
struct LogLimitState {
    /// The end of the current window.
    end: Option<Instant>,
    admitted: u32,
    omitted: u64,
}

impl LogLimit {
    /// Admits `lines` in each `window`.
    pub const fn new(lines: u32, window: Duration) -> Self {
        let state = LogLimitState { end: None, admitted: 0, omitted: 0 };
        Self { lines, window, state: Mutex::new(state) }
    }

    /// Whether to log a line now: if so, how many lines were omitted since the last one.
    pub fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.end.is_none_or(|end| now >= end) {
            (state.end, state.admitted) = (Some(now + self.window), 0);
        }
        if state.admitted == self.lines {
            state.omitted += 1;
            return None;
        }
        state.admitted += 1;
        Some(std::mem::take(&mut state.omitted))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn admits_some_lines_in_each_window_and_counts_the_others() {
        let limit = LogLimit::new(2, Duration::from_secs(10));
        let admitted = [limit.admit(), limit.admit(), limit.admit(), limit.admit()];
        assert_eq!(admitted, [Some(0), Some(0), None, None]);
        advance(Duration::from_secs(10)).await;
        assert_eq!([limit.admit(), limit.admit(), limit.admit()], [Some(2), Some(0), None]);
    }
}
