//! Values that are remembered for a limited time in limited memory, for example that something does not exist.

use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

use super::{Bounded, Clock};

/// Values by key, each with an end.
pub struct Expiring<K, V> {
    known: Bounded<K, ExpiringValue<V>>,
    clock: Clock,
}

/// A value, since when it is kept, and for how long.
#[derive(Clone)]
pub struct ExpiringValue<V> {
    value: V,
    at: Timestamp,
    lifetime: SignedDuration,
}

impl<V> ExpiringValue<V> {
    /// The value, also after its end.
    pub fn value(&self) -> &V {
        &self.value
    }
}

impl<K, V> Expiring<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// Creates a map with this memory limit in bytes. `outside` returns the memory that the key and the value point to.
    pub fn new(bytes: u64, clock: Clock, outside: fn(&K, &ExpiringValue<V>) -> usize) -> Self {
        Self { known: Bounded::new(bytes, outside), clock }
    }

    /// Remembers a value for this long, or not at all for a time of zero.
    pub fn keep(&self, key: K, value: V, lifetime: SignedDuration) {
        self.known.insert(key, ExpiringValue { value, at: self.clock.now(), lifetime });
    }

    /// The value of a key until it expires. Setting back the clock also expires it.
    pub fn get(&self, key: &K) -> Option<V> {
        let ExpiringValue { value, at, lifetime } = self.known.get(key)?;
        self.clock.is_within(at, lifetime).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end() {
        let clock = Clock::manual("2026-11-27T10:00:00Z".parse().unwrap());
        let known = Expiring::new(1024 * 1024, clock.clone(), |_, _| 0);
        known.keep("a", 1, SignedDuration::from_secs(60));
        known.keep("b", 2, SignedDuration::ZERO);
        assert_eq!((known.get(&"a"), known.get(&"b")), (Some(1), None));
        clock.advance(SignedDuration::from_secs(-1));
        assert_eq!(known.get(&"a"), None, "the clock was set back");
        clock.advance(SignedDuration::from_secs(60));
        assert_eq!(known.get(&"a"), Some(1));
        clock.advance(SignedDuration::from_secs(1));
        assert_eq!(known.get(&"a"), None);
    }
}
