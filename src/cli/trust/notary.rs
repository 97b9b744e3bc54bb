//! The roots of Docker Content Trust that a gate remembers, as text.

use jiff::Timestamp;

use crate::app::RememberedRoot;
use crate::cli::runtime;
use crate::config::Config;
use crate::runtime::printable;

/// One line for each root that a gate with this configuration remembers.
///
/// # Errors
/// They cannot be read.
pub(super) fn describe_remembered(config: &Config, now: Timestamp) -> Result<String, String> {
    let roots = runtime().map_err(|error| error.to_string())?.block_on(crate::app::notary_roots(config))?;
    Ok(roots.iter().map(|root| describe(root, now)).collect())
}

fn describe(root: &RememberedRoot, now: Timestamp) -> String {
    let RememberedRoot { repository, first_use, version, keys, expires } = root;
    let basis = if *first_use { "TRUSTED ON FIRST USE, nothing else vouches for it" } else { "pinned" };
    let state = match expires {
        Some(expires) if *expires <= now => format!("EXPIRED since {expires}"),
        Some(expires) => format!("ends at {expires}"),
        None => "cannot be read".to_owned(),
    };
    format!("{}: notary root version {version}, key {}, {state}: {basis}\n", printable(repository), keys.join(", "))
}
