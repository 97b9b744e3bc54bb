//! The configuration of scanners that are not part of the gate.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::oci::Host;
use crate::runtime::Secret;

/// A `[[va.scanner]]` table.
#[derive(Clone, Debug)]
pub struct ScannerConfig {
    /// The name in verdicts, metrics and `/readyz`.
    pub name: String,
    /// What scans.
    pub kind: ScannerKind,
    /// The time limit for one scan, without the wait for a turn.
    pub timeout: Duration,
    /// How many images are scanned at the same time.
    pub concurrency: usize,
    /// How long a report is used before the image is scanned again.
    pub ttl: Duration,
    /// How often the version of the scanner and of its database is asked for.
    pub refresh: Duration,
    /// Whether a report is complete even if the gate itself could not read something in the image.
    pub trust_coverage: bool,
}

impl ScannerConfig {
    /// A scanner with defaults for everything else.
    pub fn new(name: impl Into<String>, kind: ScannerKind) -> Self {
        let timeout = match kind {
            ScannerKind::Adapter(_) => Duration::from_secs(30 * 60),
            ScannerKind::Embedded | ScannerKind::Program(_) => Duration::from_secs(5 * 60),
        };
        Self {
            name: name.into(),
            kind,
            timeout,
            concurrency: 1,
            ttl: Duration::from_secs(12 * 3600),
            refresh: Duration::from_secs(5 * 60),
            trust_coverage: false,
        }
    }
}

/// The kinds of scanners.
#[derive(Clone, Debug)]
pub enum ScannerKind {
    /// Harbor's pluggable scanner API.
    Adapter(Box<AdapterConfig>),
    /// The scanner of the gate itself: its place in the order.
    Embedded,
    /// A program on this machine.
    Program(ProgramConfig),
}

impl ScannerKind {
    /// The word in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Adapter(_) => "harbor",
            Self::Embedded => "embedded",
            Self::Program(program) => program.tool.as_str(),
        }
    }
}

/// A scanner that is run for each image.
#[derive(Clone, Debug)]
pub struct ProgramConfig {
    /// Which program it is.
    pub tool: ScannerTool,
    /// Its path, or a name that is searched for in the usual directories.
    pub command: PathBuf,
    /// Arguments in addition to those that pullgate sets.
    pub args: Vec<String>,
    /// Its environment variables in addition to those that pullgate sets: `NAME=value`, or `NAME` for the value that
    /// pullgate itself has.
    pub environment: Vec<String>,
    /// The memory limit of each of its processes, in bytes.
    pub max_memory: u64,
    /// Whether it is isolated from the network and from other processes.
    pub isolation: Isolation,
}

impl ProgramConfig {
    /// A program with defaults for everything else.
    pub fn new(tool: ScannerTool) -> Self {
        Self {
            tool,
            command: tool.as_str().into(),
            args: Vec::new(),
            environment: Vec::new(),
            max_memory: 4 << 30,
            isolation: Isolation::Auto,
        }
    }
}

/// The programs whose options and reports are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScannerTool {
    /// anchore/grype.
    Grype,
    /// aquasecurity/trivy.
    Trivy,
}

impl ScannerTool {
    /// The usual name of the program.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grype => "grype",
            Self::Trivy => "trivy",
        }
    }

    /// The options that do not affect the findings in a report, and whether each has a value.
    fn options(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Grype => &[("--by-cve", false), ("--verbose", false), ("-v", false), ("-vv", false)],
            Self::Trivy => &[
                ("--cache-dir", true),
                ("--db-repository", true),
                ("--debug", false),
                ("-d", false),
                ("--disable-telemetry", false),
                ("--insecure", false),
                ("--java-db-repository", true),
                ("--no-progress", false),
                ("--parallel", true),
                ("--skip-version-check", false),
            ],
        }
    }

    /// The variables of the program that do not affect the findings in a report.
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Grype => &[
                "GRYPE_CHECK_FOR_APP_UPDATE",
                "GRYPE_DB_AUTO_UPDATE",
                "GRYPE_DB_CACHE_DIR",
                "GRYPE_DB_MAX_ALLOWED_BUILT_AGE",
                "GRYPE_DB_UPDATE_URL",
                "GRYPE_DB_VALIDATE_AGE",
                "GRYPE_DB_VALIDATE_BY_HASH_ON_START",
                "GRYPE_PARALLELISM",
                "SYFT_PARALLELISM",
            ],
            Self::Trivy => &[
                "TRIVY_CACHE_DIR",
                "TRIVY_DB_REPOSITORY",
                "TRIVY_DEBUG",
                "TRIVY_DISABLE_TELEMETRY",
                "TRIVY_INSECURE",
                "TRIVY_JAVA_DB_REPOSITORY",
                "TRIVY_NO_PROGRESS",
                "TRIVY_PARALLEL",
                "TRIVY_SKIP_VERSION_CHECK",
            ],
        }
    }

    /// The first argument or variable that is not known to leave all findings in a report. Other variables than those
    /// of the programs may have any name.
    pub fn hides<'a>(self, args: &'a [String], environment: &'a [String]) -> Option<&'a str> {
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (name, value) = arg.split_once('=').map_or((&**arg, None), |(name, value)| (name, Some(value)));
            let is_known = match self.options().iter().find(|(option, _)| *option == name) {
                None => false,
                Some((_, false)) => value.is_none(),
                Some((_, true)) => value.is_some() || rest.next().is_some_and(|value| !value.starts_with('-')),
            };
            if !is_known {
                return Some(arg);
            }
        }
        let is_hiding = |variable: &&String| {
            let name = variable.split('=').next().unwrap_or_default();
            let is_of_program = ["TRIVY_", "GRYPE_", "SYFT_"].iter().any(|prefix| name.starts_with(prefix));
            is_of_program && !self.variables().contains(&name)
        };
        environment.iter().find(is_hiding).map(String::as_str)
    }
}

/// How far a program is separated from the rest of the machine, in addition to the limits that always apply.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Isolation {
    /// As far as the system permits.
    #[default]
    Auto,
    /// Not at all: the program may use the network.
    Off,
    /// The program is not run without it.
    Required,
}

impl Isolation {
    /// The words in the configuration.
    pub const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("off", Self::Off), ("required", Self::Required)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Required => "required",
        }
    }
}

/// A service that scans images, with the API of Harbor's scanners.
#[derive(Clone, Debug)]
pub struct AdapterConfig {
    /// Its URL, without `/api/v1`.
    pub url: String,
    /// The credentials for the service.
    pub auth: AdapterAuth,
    /// Certificate authorities to trust in addition to those of the system (PEM).
    pub ca: Option<PathBuf>,
    /// Whether its certificate is not verified.
    pub insecure: bool,
    /// The egress proxy, an `http://` URL. `None` uses the proxies of the environment, and an empty string uses none.
    pub proxy: Option<String>,
    /// Where it pulls the images of each registry from.
    pub registries: BTreeMap<Host, AdapterRegistry>,
}

/// Where a service pulls the images of one registry from.
#[derive(Clone)]
pub struct AdapterRegistry {
    /// The URL of a registry, as the service reaches it.
    pub url: String,
    /// Put in front of the name of the repository, for a registry that has several upstreams: `docker.io`.
    pub prefix: Option<String>,
    /// The credentials that the service uses there.
    pub auth: AdapterAuth,
}

impl fmt::Debug for AdapterRegistry {
    /// A URL may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterRegistry")
            .field("prefix", &self.prefix)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// Credentials for requests.
#[derive(Clone, Debug, Default)]
pub enum AdapterAuth {
    /// An API key, in the header that Harbor uses.
    ApiKey(Secret),
    /// A user name and a password.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
    /// None.
    #[default]
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_hide_findings_are_recognised() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (tool, args, environment, hidden) in [
            (ScannerTool::Trivy, vec!["--cache-dir", "/var/cache/trivy"], vec!["TRIVY_CACHE_DIR=/x"], None),
            (ScannerTool::Trivy, vec!["--severity", "HIGH"], vec![], Some("--severity")),
            (ScannerTool::Trivy, vec!["--cache-dir=/x", "--debug"], vec!["HTTPS_PROXY"], None),
            (ScannerTool::Trivy, vec!["-sCRITICAL"], vec![], Some("-sCRITICAL")),
            (ScannerTool::Trivy, vec!["-dsCRITICAL"], vec![], Some("-dsCRITICAL")),
            (ScannerTool::Trivy, vec!["--list-all-pkgs=false"], vec![], Some("--list-all-pkgs=false")),
            (ScannerTool::Trivy, vec!["--cache-backend", "fs"], vec![], Some("--cache-backend")),
            (ScannerTool::Trivy, vec!["--ignorefile", "x"], vec![], Some("--ignorefile")),
            (ScannerTool::Trivy, vec!["--cache-dir", "--vex"], vec![], Some("--cache-dir")),
            (ScannerTool::Trivy, vec!["other"], vec![], Some("other")),
            (ScannerTool::Grype, vec!["-cFILE"], vec![], Some("-cFILE")),
            (ScannerTool::Grype, vec![], vec!["SYFT_EXCLUDE=/usr"], Some("SYFT_EXCLUDE=/usr")),
            (ScannerTool::Trivy, vec!["--severity=HIGH"], vec![], Some("--severity=HIGH")),
            (ScannerTool::Trivy, vec![], vec!["TRIVY_SKIP_DIRS=/usr"], Some("TRIVY_SKIP_DIRS=/usr")),
            (ScannerTool::Trivy, vec![], vec!["TRIVY_SEVERITY"], Some("TRIVY_SEVERITY")),
            (ScannerTool::Grype, vec!["--by-cve"], vec!["GRYPE_DB_CACHE_DIR=/x"], None),
            (ScannerTool::Grype, vec!["-o", "table"], vec![], Some("-o")),
            (ScannerTool::Grype, vec![], vec!["GRYPE_OUTPUT=table"], Some("GRYPE_OUTPUT=table")),
        ] {
            assert_eq!(tool.hides(&texts(&args), &texts(&environment)), hidden, "{args:?} {environment:?}");
        }
    }
}
