//! The roots of Docker Content Trust that a gate remembers.

use jiff::Timestamp;

use crate::app::RememberedRoot;
use crate::cli::runtime;
use crate::config::Config;
use crate::runtime::printable;

/// The roots that a gate with this configuration remembers.
///
/// # Errors
/// They cannot be read.
pub(super) fn remembered(config: &Config) -> Result<Vec<RememberedRoot>, String> {
    runtime().map_err(|error| error.to_string())?.block_on(crate::app::notary_roots(config))
}

/// A root as JSON.
pub(super) fn as_json(root: &RememberedRoot) -> serde_json::Value {
    let RememberedRoot { repository, first_use, version, keys, expires } = root;
    serde_json::json!({
        "repository": repository, "first_use": first_use, "version": version, "keys": keys, "expires": expires
    })
}

/// A root as one line.
pub(super) fn describe(root: &RememberedRoot, now: Timestamp) -> String {
    let RememberedRoot { repository, first_use, version, keys, expires } = root;
    let basis = if *first_use { "TRUSTED ON FIRST USE, nothing else vouches for it" } else { "pinned" };
    let state = match expires {
        Some(expires) if *expires <= now => format!("EXPIRED since {expires}"),
        Some(expires) => format!("ends at {expires}"),
        None => "cannot be read".to_owned(),
    };
    format!("{}: notary root version {version}, key {}, {state}: {basis}\n", printable(repository), keys.join(", "))
}
