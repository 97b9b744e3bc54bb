//! Auxiliary services: each has its own connections and its own answer to whether it is in a private network.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;

use super::connect::Connector;
use super::{ConnectionPool, pool};

/// The maximum number of services whose connections are kept. The configuration and policies name the services.
const MAX_SERVICES: usize = 64;

/// The auxiliary services of one client, by host.
pub(super) struct AuxiliaryServices {
    connector: Connector,
    tls: ClientConfig,
    timeout: Duration,
    known: Mutex<HashMap<String, ServicePools>>,
}

/// The connections of one service. A connection that only its responses opened is never used for those of another one.
#[derive(Clone, Debug)]
pub(super) struct ServicePools {
    /// To the service itself.
    pub(super) own: ConnectionPool,
    /// To the hosts that its responses name.
    pub(super) named: ConnectionPool,
}

impl fmt::Debug for AuxiliaryServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuxiliaryServices").finish_non_exhaustive()
    }
}

impl AuxiliaryServices {
    /// `connector` has the proxies and limits of all services.
    pub(super) fn new(connector: Connector, tls: ClientConfig, timeout: Duration) -> Self {
        Self { connector, tls, timeout, known: Mutex::default() }
    }

    /// The connections of the service on this host.
    pub(super) fn of(&self, host: &str) -> ServicePools {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pools) = known.get(host) {
            return pools.clone();
        }
        if known.len() >= MAX_SERVICES
            && let Some(one) = known.keys().next().cloned()
        {
            known.remove(&one);
        }
        let own = self.connector.for_service();
        let named = own.for_named_hosts();
        let pools = |connector| pool(connector, self.tls.clone(), self.timeout);
        let pools = ServicePools { own: pools(own), named: pools(named) };
        known.insert(host.to_owned(), pools.clone());
        pools
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HttpClient, HttpSettings, Network};
    use super::*;

    #[test]
    fn a_service_too_many_replaces_one() {
        let limit = Duration::from_secs(1);
        let settings = HttpSettings { proxy: Some(String::new()), ..HttpSettings::within(limit, limit) };
        let client = HttpClient::new(&settings, &Network::default()).unwrap();
        for number in 0..=MAX_SERVICES {
            client.services.of(&format!("{number}.test"));
        }
        assert_eq!(client.services.known.lock().unwrap().len(), MAX_SERVICES);
    }
}
