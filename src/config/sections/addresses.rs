//! Addresses of listeners: their form, and which of them cannot be used together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::reader::Table;

/// The host and the port of an address such as `0.0.0.0:5000`; the host without the brackets of IPv6.
fn parts(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

/// Whether an address has the form `host:port`.
pub(super) fn is_valid(address: &str) -> bool {
    parts(address).is_some()
}

/// Reports an address that has not the form `host:port`.
pub(super) fn check(table: &Table<'_>, key: &str, address: &str) {
    let Some((host, _)) = parts(address) else {
        let hint = "write host:port, such as 0.0.0.0:5000";
        return table.problem(key, format!("{address:?} is not a valid address"), Some(hint));
    };
    if let Some((_, zone)) = host.split_once('%')
        && zone.parse::<u32>().is_err()
    {
        let hint = "write the number that `ip link` shows, such as [fe80::1%2]:5000";
        table.problem(key, format!("{zone:?} is not the number of a network interface"), Some(hint));
    }
}

/// Whether only this machine can reach an address.
pub(crate) fn is_loopback(address: &str) -> bool {
    parts(address).is_some_and(|(host, _)| literal(host).is_some_and(|ip| ip.is_loopback()))
}

/// The addresses that were seen so far, each with the key that sets it.
#[derive(Default)]
pub(super) struct UsedAddresses(Vec<(String, String)>);

impl UsedAddresses {
    /// Reports an address that another key already uses, even if only as part of `0.0.0.0` or `[::]`.
    pub(super) fn add(&mut self, table: &Table<'_>, key: &str, address: &str) {
        let other = self.0.iter().find(|(other, _)| overlap(other, address));
        if let Some((other, by)) = other {
            let hint = "choose another port for one of them";
            table.problem(key, format!("{address} cannot be used, because {by} is {other}"), Some(hint));
        }
        self.0.push((address.to_owned(), table.path(key)));
    }
}

/// Whether two listeners cannot have these addresses at the same time. Port 0 is a different port each time. `[::]`
/// takes IPv4 connections, too.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (Some((host, port)), Some((other_host, other_port))) = (parts(one), parts(other)) else { return false };
    if port == 0 || port != other_port {
        return false;
    }
    let (Some(ip), Some(other_ip)) = (literal(host), literal(other_host)) else {
        return host.eq_ignore_ascii_case(other_host);
    };
    let is_all = |ip: IpAddr| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let covers = |ip: IpAddr, other: IpAddr| ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && other.is_ipv4();
    ip == other_ip || is_all(ip) || is_all(other_ip) || covers(ip, other_ip) || covers(other_ip, ip)
}

/// The IP address that a host is, without a look-up.
fn literal(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_overlap() {
        for (one, other, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000", true),
            ("127.0.0.1:5000", "127.0.0.1:5001", false),
            ("127.0.0.1:5000", "127.0.0.2:5000", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:5000", "127.0.0.1:5000", true),
            ("0.0.0.0:5000", "[::1]:5000", false),
            ("[::]:5000", "127.0.0.1:5000", true),
            ("[::]:5000", "[::1]:5000", true),
            ("localhost:5000", "127.0.0.1:5000", true),
            ("Gate.test:5000", "gate.test:5000", true),
            ("gate.test:5000", "127.0.0.1:5000", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
