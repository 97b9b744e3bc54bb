//! Policies, and sources of evidence: reports, advisory databases, scanners.

use jiff::Timestamp;

use super::collisions::{self, NamedMaterials};
use super::{PreflightDepth, PreflightFindings};
use crate::config::Config;
use crate::markup::{Problem, ProblemSeverity};
use crate::policy::{EvidenceSources, EvidencedRegistry, RuleSet, Settings};
use crate::rulebook::{Directory, DirectoryError, ONLY_AUDITED, effect_of_no_policy};
use crate::runtime::format_duration;
use crate::upstream;
use crate::va::{self, DatabaseConfig, DatabaseLack, ExpectedDatabases, ReportProblem, ScannerKind};

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let now = found.now;
    // It is a mistake of its own if it is not set.
    let config = found.config;
    if !config.policy_dir.as_os_str().is_empty() {
        policies(found, now);
    }
    for root in &config.policy.trusted_roots {
        found.access("trust.trusted_roots", root.as_ref());
    }
    if let Some(root) = &config.notary_root {
        found.access("trust.notary_root", root);
    }
    names(found);
    if found.depth == PreflightDepth::Everything {
        for (directory, other) in va::read_twice(&config.va.reports) {
            let message = format!(
                "{}: this is also read as a part of {}: each file in it is read twice, and counts twice towards the \
                 maximum number of files",
                directory.display(),
                other.display()
            );
            found.warn("va.reports", &message, Some("remove it from the list"));
        }
        let problems = va::check_reports(&config.va.reports, now);
        if problems.is_empty() && config.va.awaits_reports() {
            found.add(ProblemSeverity::Note, "va.reports", "there is no report in it yet", None);
        }
        for problem in problems {
            let (problem, hint) = match problem {
                ReportProblem::NotDirectory(path) => (
                    format!("{}: this is not a directory", path.display()),
                    "name the directory that contains this file",
                ),
                ReportProblem::Content(why) => (why, "images that depend on it do not count as scanned"),
            };
            found.warn("va.reports", &problem, Some(hint));
        }
        if let Some(databases) = &config.va.databases {
            self::databases(found, databases, now);
        }
    }
}

/// Every problem of every document has its own place. When a gate starts, its rules report their warnings themselves.
fn policies(found: &mut PreflightFindings<'_>, now: Timestamp) {
    let config = found.config;
    let dir = config.policy_dir.display();
    let (snapshot, unreadable) = Directory::new(&config.policy_dir).examine();
    if let Some(error) = unreadable.iter().find(|error| error.path() == config.policy_dir) {
        let hint = "it must be a directory that pullgate can read; config/policies of the project has examples";
        return found.error("policy.dir", &error.to_string(), Some(hint));
    }
    found.report.configuration.extend(unreadable.iter().map(DirectoryError::problem));
    found.access("policy.dir", &config.policy_dir);
    for document in &snapshot.documents {
        found.access("policy.dir", document.path.as_ref());
    }
    let settings = Settings { now: Some(now), ..config.policy.clone() };
    let materials = NamedMaterials::new(&*snapshot.materials, &config.policy_dir);
    let parsed = RuleSet::parse(&snapshot.documents, &materials, &settings);
    collisions::check_policies(found, materials);
    let is_empty = unreadable.is_empty() && parsed.rules.as_ref().is_some_and(|rules| rules.documents() == 0);
    let is_whole = found.depth == PreflightDepth::Everything;
    let least = if is_whole { ProblemSeverity::Warning } else { ProblemSeverity::Error };
    let problems = parsed.problems.into_iter().chain(snapshot.warnings);
    // Mistakes of these keys have been reported where the configuration has them.
    let keys = ["trust.default_authorities: ", "trust.trusted_roots: "];
    let is_reported = |problem: &Problem| keys.iter().any(|key| problem.message.starts_with(key));
    found.report.configuration.extend(problems.filter(|found| found.severity <= least && !is_reported(found)));
    // Only the configuration determines which evidence is available, so the rules alone cannot report this when a gate
    // starts.
    let sources = evidence_sources(config);
    let of = |rules: &RuleSet| [rules.unselected(&sources), rules.problems_with(&sources)].concat();
    let unmet = parsed.rules.iter().flat_map(of);
    let most = if is_whole { ProblemSeverity::Note } else { ProblemSeverity::Warning };
    found.report.configuration.extend(unmet.filter(|problem| problem.severity <= most));
    if is_whole && parsed.rules.as_ref().is_some_and(RuleSet::is_only_audited) {
        found.add(ProblemSeverity::Note, "policy.dir", ONLY_AUDITED, None);
    }
    if is_empty && is_whole {
        let hint = "copy one of config/policies; `pullgate policy check` tests them";
        let effect = effect_of_no_policy(config.gate.audit);
        let message =
            format!("{dir} contains no policies: after the next start, {effect}; a running gate keeps its policies");
        found.warn("policy.dir", &message, Some(hint));
    }
}

/// What a gate with this configuration can find out about images.
pub fn evidence_sources(config: &Config) -> EvidenceSources {
    let databases = config.va.databases.as_ref().map(ExpectedDatabases::of);
    let has = |kind: fn(&ExpectedDatabases) -> bool| databases.as_ref().is_some_and(kind);
    let has_advisories = has(|databases| databases.advisories);
    let registry = |upstream: &upstream::Config| EvidencedRegistry {
        host: upstream.host.clone(),
        aliases: upstream.aliases.clone(),
        path: upstream.path.clone(),
        has_va: has_advisories || config.va.is_known_elsewhere(&upstream.host),
        has_notary: upstream.notary_server().is_some(),
    };
    let scopes = config.listeners.iter().flat_map(|listener| {
        let named = listener.tls.iter().flat_map(|tls| tls.client_names.values());
        listener.scope.iter().chain(named).cloned()
    });
    EvidenceSources {
        scopes: scopes.chain([config.prefetch.scope.clone()]).collect(),
        registries: config.upstreams.iter().map(registry).collect(),
        has_kev: has(|databases| databases.kev),
        has_epss: has(|databases| databases.epss),
        audit: config.gate.audit,
    }
}

/// Images and registries that are named must belong to an upstream, which can be asked for them.
fn names(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    let of = |host: &crate::oci::Host| config.upstreams.iter().find(|upstream| upstream.has_name(host));
    // Databases of an offline registry are imported. Only an update would fetch them.
    let updates = config.va.databases.as_ref().is_some_and(|databases| databases.sources.update.is_some());
    let databases = config.va.databases.iter().flat_map(|databases| databases.sources.images());
    let databases = databases.map(|(_, key, image)| (format!("va.database.{key}"), image, updates));
    let named = config.prefetch.images.iter().map(|image| ("prefetch.images".to_owned(), image, true));
    for (key, image, is_fetched) in named.chain(databases) {
        let host = &image.name.host;
        match of(host) {
            None => {
                let message = format!("{host} is not the host of an [[upstream]], so it cannot be fetched");
                found.warn(&key, &message, Some("add an [[upstream]] with this host"));
            }
            Some(upstream) if upstream.offline && is_fetched => {
                let message = format!("{host} is offline, so this image cannot be fetched");
                let hint = "import it: images with `pullgate bundle import`, databases with `pullgate db import`";
                found.warn(&key, &message, Some(hint));
            }
            Some(_) => {}
        }
    }
}

fn databases(found: &mut PreflightFindings<'_>, databases: &DatabaseConfig, now: Timestamp) {
    let hint = "run `pullgate db update`, or `pullgate db import` without a network";
    let DatabaseLack { missing, aged } = match va::check_databases(databases, now) {
        Ok(status) => status,
        Err(why) => return found.warn("va.database", &why, None),
    };
    if !missing.is_empty() {
        let message = format!("there is no advisory database of {} yet", missing.join(", "));
        found.warn("va.database", &message, Some(hint));
    }
    for (source, age) in aged {
        let age = format_duration(std::time::Duration::from_secs(age.unsigned_abs().as_secs() / 3600 * 3600));
        let message = format!(
            "the advisory database {source} is {age} old, so images with packages that it lists count as not judged"
        );
        found.warn("va.max_db_age", &message, Some(hint));
    }
}

/// Runs each scanner to get its version, and reports how it is isolated.
pub(super) async fn check_scanners(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    for (index, scanner) in config.va.scanners.iter().enumerate() {
        let table = config.places.item("va.scanner", index);
        let key = if matches!(scanner.kind, ScannerKind::Program(_)) { format!("{table}.command") } else { table };
        match va::check_scanner(scanner, &config.va.scratch, config.va.admin_socket.as_deref()).await {
            Ok(facts) => {
                let message = format!("scanner {}: {}", scanner.name, facts.join("; "));
                found.add(ProblemSeverity::Note, &key, &message, None);
            }
            Err(why) => {
                let hint = "install it, and write its path as `command`";
                found.error(&key, &format!("scanner {}: {why}", scanner.name), Some(hint));
            }
        }
    }
}
