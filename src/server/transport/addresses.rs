//! Counts the connections of each client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections by address. Nothing is kept about clients that left. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct AddressCounts(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub(in crate::server) struct AddressShare {
    counts: AddressCounts,
    address: IpAddr,
    /// How many connections the address had when this one was counted, this one included.
    pub(in crate::server) number: usize,
}

impl AddressCounts {
    /// `None` if the address has this many connections already.
    pub(in crate::server) fn take(&self, address: IpAddr, most: usize) -> Option<AddressShare> {
        let address = address.to_canonical();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&address).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        counts.insert(address, count + 1);
        Some(AddressShare { counts: self.clone(), address, number: count + 1 })
    }

    /// The address with most connections, and how many it has.
    pub(in crate::server) fn busiest(&self) -> Option<(IpAddr, usize)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().max_by_key(|(_, count)| **count).map(|(address, count)| (*address, *count))
    }

    /// Whether no connection is counted.
    #[cfg(test)]
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for AddressShare {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// The unit that counts as one client: an IPv4 address, or the /64 network of an IPv6 address, because one machine may
/// have all addresses in it.
pub(in crate::server) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_until_they_end() {
        let (counts, address) = (AddressCounts::default(), IpAddr::from([192, 0, 2, 1]));
        let first = counts.take(address, 2).unwrap();
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let second = counts.take(mapped, 2).unwrap();
        assert_eq!((first.number, second.number), (1, 2));
        let other = counts.take([192, 0, 2, 3].into(), 2);
        assert_eq!(counts.busiest(), Some((address, 2)));
        drop(other);
        assert!(counts.take(address, 2).is_none() && counts.take([192, 0, 2, 2].into(), 2).is_some());
        drop(first);
        assert!(counts.take(address, 2).is_some());
        drop(second);
        assert!(counts.is_empty());
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6() {
        let client = |text: &str| client_of(text.parse().unwrap()).to_string();
        assert_eq!(client("192.0.2.1"), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
