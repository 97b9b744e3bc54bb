//! Opens everything that a configuration names before a gate starts, so that all mistakes are reported at once.
//!
//! `pullgate config check`, `pullgate serve` and a reload of the configuration share these checks. They use the
//! functions with which each part opens its files. When a gate starts, each part opens them again and has the last
//! word.

mod collisions;
mod contradictions;
mod disk;
mod environment;
mod files;
mod holder;
mod machine;
mod online;
mod policies;
mod service_user;
mod services;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jiff::Timestamp;

use crate::config::Config;
use crate::http_client;
use crate::markup::{Problem, ProblemSeverity};
use crate::runtime::{Clock, Tasks};

pub use online::reach;
pub use policies::evidence_sources;
use service_user::ServiceUser;

/// How much is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PreflightDepth {
    /// What determines whether a running gate can use another configuration: as `Start`, without the ports and
    /// directories that the gate itself uses.
    Reload,
    /// What decides whether a gate can start.
    Start,
    /// Includes problems that a running gate would only report: vulnerability reports, advisory databases, scanners.
    Everything,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct PreflightReport {
    /// Problems of the configuration and of the files that it names.
    pub configuration: Vec<Problem>,
    /// Problems of this machine at this moment: a directory that cannot be written, a port that is in use.
    pub machine: Vec<Problem>,
}

impl PreflightReport {
    /// Whether the configuration can be used.
    pub fn is_usable(&self) -> bool {
        self.configuration.iter().all(|problem| problem.severity != ProblemSeverity::Error)
    }

    /// All problems, in the order of their places.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut all = [self.configuration, self.machine].concat();
        all.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        all
    }
}

/// Opens what a configuration names, which was read with these problems.
///
/// # Errors
/// Every problem, if it cannot be used.
pub async fn open(
    mut config: Config,
    mut problems: Vec<Problem>,
    depth: PreflightDepth,
    clock: &Clock,
) -> Result<Config, Vec<Problem>> {
    let report = check(&config, depth, clock).await;
    if problems.iter().any(|problem| problem.severity == ProblemSeverity::Error) || !report.is_usable() {
        problems.extend(report.into_problems());
        return Err(problems);
    }
    // Properties of this machine are checked when a file is opened.
    let PreflightReport { configuration, machine: _ } = report;
    problems.extend(configuration);
    config.warnings = problems;
    Ok(config)
}

/// Opens what the configuration names.
pub async fn check(config: &Config, depth: PreflightDepth, clock: &Clock) -> PreflightReport {
    let (opened, now) = (config.clone(), clock.now());
    let open = move || {
        let mut found = PreflightFindings::new(&opened, depth, now);
        collisions::check(&mut found);
        if depth == PreflightDepth::Everything {
            contradictions::check(&mut found);
        }
        files::check(&mut found);
        environment::check(&mut found);
        policies::check(&mut found);
        machine::socket(&mut found);
        if depth != PreflightDepth::Reload {
            machine::check(&mut found);
        }
        found.report
    };
    let mut report = match Tasks::new().spawn_blocking(open).await {
        Ok(report) => report,
        Err(error) => {
            let problem =
                config.places.problem(ProblemSeverity::Error, "configuration", &format!("not checked: {error}"), None);
            PreflightReport { configuration: vec![problem], machine: Vec::new() }
        }
    };
    let mut found = PreflightFindings::new(config, depth, now);
    if depth != PreflightDepth::Reload {
        machine::check_database(&mut found).await;
    }
    if depth == PreflightDepth::Everything {
        policies::check_scanners(&mut found).await;
    }
    report.configuration.extend(found.report.configuration);
    report.machine.extend(found.report.machine);
    report
}

/// Collects problems. A key is given by its path: `listener[0].tls.certificate`.
struct PreflightFindings<'a> {
    config: &'a Config,
    depth: PreflightDepth,
    now: Timestamp,
    /// The user of the gate, if root checks for another user.
    service: Option<ServiceUser>,
    report: PreflightReport,
}

impl<'a> PreflightFindings<'a> {
    fn new(config: &'a Config, depth: PreflightDepth, now: Timestamp) -> Self {
        // A gate that starts is its own user.
        let is_for_another = depth == PreflightDepth::Everything;
        let service = is_for_another.then(|| ServiceUser::of_state(&config.state_dir, &config.admin.socket)).flatten();
        Self { config, depth, now, service, report: PreflightReport::default() }
    }

    fn error(&mut self, key: &str, message: &str, hint: Option<&str>) {
        self.add(ProblemSeverity::Error, key, message, hint);
    }

    fn warn(&mut self, key: &str, message: &str, hint: Option<&str>) {
        self.add(ProblemSeverity::Warning, key, message, hint);
    }

    fn add(&mut self, severity: ProblemSeverity, key: &str, message: &str, hint: Option<&str>) {
        self.report.configuration.push(self.config.places.problem(severity, key, message, hint));
    }

    /// A problem of this machine.
    fn machine(&mut self, severity: ProblemSeverity, key: &str, message: &str, hint: Option<&str>) {
        self.report.machine.push(self.config.places.problem(severity, key, message, hint));
    }

    /// Reports a file or directory that everyone can change, or that root can read but the user of the gate cannot.
    fn access(&mut self, key: &str, path: &Path) {
        if self.depth == PreflightDepth::Everything && mode(path) & 0o002 != 0 && !is_read_only(path) {
            let message = format!("{}: every user of this machine can change it", path.display());
            self.warn(key, &message, Some("chmod o-w"));
        }
        let Some(user) = self.service.as_ref().filter(|user| !user.can_read(path)) else { return };
        let (path, uid) = (path.display(), user.uid());
        let message = format!("{path}: root can read it, but user {uid}, who owns the gate's state, cannot");
        let hint =
            "let that user read it; if a group of the service or an access list does so, run this check as that user";
        self.warn(key, &message, Some(hint));
    }

    /// Checks the `proxy` and the `ca` of a table.
    fn connection(&mut self, table: &str, proxy: Option<&str>, ca: Option<&Path>) {
        if let Err(error) = http_client::check_proxy(proxy) {
            self.error(&format!("{table}.proxy"), &error.to_string(), Some("such as http://proxy.acme.com:3128"));
        }
        let Some(path) = ca else { return };
        let key = format!("{table}.ca");
        self.access(&key, path);
        match http_client::check_ca(path, self.now) {
            Ok(false) => {}
            Ok(true) => {
                let message = format!("{}: all certificates in it have expired", path.display());
                self.warn(&key, &message, Some("get the current certificates of the authority"));
            }
            Err(error) => {
                let hint = "it must be a file with certificates in PEM that pullgate can read";
                self.error(&key, &error.to_string(), Some(hint));
            }
        }
    }

    /// Reports a secret that cannot be read. It is read again whenever it is needed, so a gate starts without it, and
    /// says that it is degraded.
    fn secret(&mut self, key: &str, read: Result<(), String>) {
        if let Err(why) = read {
            let severity = match self.depth {
                PreflightDepth::Reload | PreflightDepth::Start => ProblemSeverity::Warning,
                PreflightDepth::Everything => ProblemSeverity::Error,
            };
            let hint = if key.ends_with("_env") {
                "set it in the environment of the gate, such as by EnvironmentFile= of its systemd unit"
            } else if key.ends_with(".program") {
                "install it, or write its path"
            } else {
                "write the secret there, readable for the user that runs pullgate"
            };
            self.add(severity, key, &why, Some(hint));
        }
    }
}

/// Whether this is on a read-only mount. Kubernetes mounts a `ConfigMap` that way, with mode 0777.
fn is_read_only(path: &Path) -> bool {
    let mounted = rustix::fs::statvfs(path);
    mounted.is_ok_and(|disk| disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// The permissions of a file or directory; 0 if it does not exist. Those of pipes and devices do not matter: their
/// content is not read.
fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.is_file() || metadata.is_dir());
    metadata.map_or(0, |metadata| metadata.permissions().mode())
}
