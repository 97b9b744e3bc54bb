//! The kinds of databases that a gate has, or will have.

use super::{DatabaseConfig, known};
use crate::advisories::{DatabaseKind, SourceStatus};

/// The kinds of databases that there are, or will be because they are configured. If the databases cannot be read, any
/// kind may be there.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedDatabases {
    /// Those in which packages are looked up.
    pub advisories: bool,
    /// CISA's catalogue of exploited vulnerabilities.
    pub kev: bool,
    /// FIRST's probabilities of exploitation.
    pub epss: bool,
}

impl ExpectedDatabases {
    /// Those of a configuration. Reads the status of the databases, not their content.
    pub fn of(config: &DatabaseConfig) -> Self {
        let known = known(config);
        let is_there = |is: fn(&SourceStatus) -> bool| match &known {
            Ok(known) => known.iter().any(is),
            Err(_) => true,
        };
        let sources = &config.sources;
        Self {
            advisories: !sources.advisories().is_empty() || is_there(SourceStatus::has_advisories),
            kev: sources.kev.is_some() || is_there(|one| one.is_of(DatabaseKind::Kev)),
            epss: sources.epss.is_some() || is_there(|one| one.is_of(DatabaseKind::Epss)),
        }
    }
}
