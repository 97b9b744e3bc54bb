//! Records on their way to the writer. Handing one over takes a lock and a move; the writer is woken for many at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::Record;

/// How many records may wait before requests do.
const ROOM: usize = 8192;
/// How long the writer gathers records that nobody waits for.
const GATHER: Duration = Duration::from_millis(10);

pub(super) enum Message {
    Close(oneshot::Sender<()>),
    Record(Box<Record>, Option<oneshot::Sender<bool>>),
    Reopen,
}

/// How soon a message is to be seen.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Urgency {
    Now,
    Soon,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the writer: something has come.
    filled: Condvar,
    /// For requests: there is room again.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    is_urgent: bool,
    has_ended: bool,
}

impl Queue {
    /// False when the writer has ended.
    pub(super) fn push(&self, message: Message, urgency: Urgency) -> bool {
        let mut state = self.lock();
        if state.has_ended {
            return false;
        }
        let is_first = state.messages.is_empty();
        let becomes_urgent = urgency == Urgency::Now && !state.is_urgent;
        state.messages.push(message);
        state.is_urgent |= becomes_urgent;
        drop(state);
        if is_first || becomes_urgent {
            self.filled.notify_one();
        }
        true
    }

    /// Resolves when fewer wait than may.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().messages.len() < ROOM {
                return;
            }
            emptied.await;
        }
    }

    /// Blocks until there is something, gathers for a moment, and takes all of it.
    pub(super) fn take(&self) -> Vec<Message> {
        let poisoned = PoisonError::into_inner;
        let state = self.filled.wait_while(self.lock(), |state| state.messages.is_empty()).unwrap_or_else(poisoned);
        let gathered = self.filled.wait_timeout_while(state, GATHER, |state| !state.is_urgent);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        state.is_urgent = false;
        let room = Vec::with_capacity(state.messages.len());
        let messages = std::mem::replace(&mut state.messages, room);
        drop(state);
        self.emptied.notify_waiters();
        messages
    }

    /// Takes nothing from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        // Whoever waits for one of these is told by its absence.
        state.messages.clear();
        drop(state);
        self.emptied.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
