//! Values with one copy for each thread, so that processor cores do not write to the same memory.

use std::cell::Cell;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use prometheus_client::metrics::counter::{self, Counter};

/// The maximum number of shards. If there are more cores, they share them.
const MAX_SHARDS: usize = 64;

/// One value for each processor core. A thread always uses the same value, and several threads can share one.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Padded<T>]>);

/// Aligned so that no other value is in the same cache lines: two on x86-64, which fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        let count = thread::available_parallelism().map_or(1, NonZero::get).clamp(1, MAX_SHARDS);
        Self(std::iter::repeat_with(Padded::default).take(count).collect())
    }
}

impl<T> Sharded<T> {
    /// The value of this thread.
    pub fn mine(&self) -> &T {
        &self.0[self.my_index()].0
    }

    /// The index of this thread's value.
    pub fn my_index(&self) -> usize {
        thread_number() % self.0.len()
    }

    /// All values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Gives this thread a number, so that threads with consecutive numbers share no value. Other threads are numbered in
/// the order of their first use of a [`Sharded`].
pub fn number_this_thread(number: usize) {
    NUMBER.set(Some(number));
}

fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NUMBER.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}

/// A counter metric for events that occur in every request.
pub type BusyCounter = Counter<u64, ShardedCount>;

/// A number to which many threads add concurrently.
#[derive(Debug, Default)]
pub struct ShardedCount(Sharded<AtomicU64>);

impl counter::Atomic<u64> for ShardedCount {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    fn inc_by(&self, by: u64) -> u64 {
        self.0.mine().fetch_add(by, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_with_consecutive_numbers_share_no_value() {
        let sharded = Sharded::<AtomicU64>::default();
        let index = |number| {
            let numbered = || {
                number_this_thread(number);
                sharded.my_index()
            };
            thread::scope(|scope| scope.spawn(numbered).join().unwrap())
        };
        let numbers: Vec<usize> = (0..sharded.iter().len()).collect();
        assert_eq!(numbers.iter().copied().map(index).collect::<Vec<_>>(), numbers);
    }

    #[test]
    fn counter_sums_the_increments_of_all_threads() {
        let counter = BusyCounter::default();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| _ = counter.inc()));
            }
        });
        assert_eq!(counter.get(), 8000);
    }
}
