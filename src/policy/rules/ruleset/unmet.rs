//! Entries that can only deny, because nothing can deliver the evidence that they ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::rule::{Behaviour, Rule};
use super::super::va_rule::Unscanned;
use super::{Entry, RuleLayer, RuleSet};
use crate::markup::{Place, Problem, ProblemSeverity, Problems};
use crate::oci::Host;
use crate::policy::signatures::authority::{Authority, AuthorityId};
use crate::scope::Scope;

/// The maximum number of registries that a problem names; there may be hundreds.
const NAMED: usize = 5;

/// What a gate can find out about images.
#[derive(Clone, Debug, Default)]
pub struct EvidenceSources {
    /// The registries that images are pulled from.
    pub registries: Vec<EvidencedRegistry>,
    /// The namespaces that clients can have.
    pub scopes: Vec<Scope>,
    /// Whether CISA's catalogue of exploited vulnerabilities (KEV) is imported, or is fetched from somewhere.
    pub has_kev: bool,
    /// The same for FIRST's probabilities of exploitation (EPSS).
    pub has_epss: bool,
    /// Whether the whole gate is in audit mode, so that nothing is denied.
    pub audit: bool,
}

/// What a gate can find out about the images of a registry.
#[derive(Clone, Debug)]
pub struct EvidencedRegistry {
    /// The host in the names of images.
    pub host: Host,
    /// Other names of the registry.
    pub aliases: Vec<Host>,
    /// Its name as the first component of the path of a request.
    pub path: Option<String>,
    /// Whether a source can know the vulnerabilities of its images.
    pub has_va: bool,
    /// Whether its notary server is known.
    pub has_notary: bool,
}

/// Where an entry is written. It is not part of what the entry means, so all places are equal.
#[derive(Clone, Debug)]
pub(in crate::policy) struct EntryPlace {
    file: Arc<str>,
    line: u32,
    column: u32,
}

impl EntryPlace {
    pub(in crate::policy) fn new(at: Place, problems: &Problems) -> Self {
        Self { file: problems.name(at.file), line: at.line, column: at.column }
    }

    pub(super) fn problem(&self, severity: ProblemSeverity, message: String, hint: &str) -> Problem {
        let problem = Problem::of_file(severity, &*self.file, message, Some(hint));
        Problem { line: self.line, column: self.column, ..problem }
    }
}

impl PartialEq for EntryPlace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Evidence that nothing can deliver.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum EvidenceLack {
    Epss,
    Kev,
    Notary,
    /// The signatures of this authority are in this registry.
    Signatures(String, String),
    Vulnerabilities,
}

impl RuleSet {
    /// What the rules cannot do on a gate with these registries and clients: entries and exemptions that match nothing,
    /// and entries that only deny because nothing can deliver evidence.
    pub fn problems_with(&self, sources: &EvidenceSources) -> Vec<Problem> {
        let mut problems = self.unmatched(sources);
        problems.extend(self.unmet(sources));
        problems
    }

    /// A warning for each entry that denies every image because nothing can deliver evidence that it asks for, and a
    /// note for each entry that denies every image of only some of the registries for that reason.
    fn unmet(&self, sources: &EvidenceSources) -> Vec<Problem> {
        let layers = [(&self.enforced, !sources.audit), (&self.audited, false)];
        let of_layer = |(layer, is_enforced): (&RuleLayer, bool)| -> Vec<Problem> {
            // What decides about no pull is named for that.
            let own = layer.namespaces.iter().filter(|(name, _)| sources.has_clients(name)).map(|(_, entries)| entries);
            let entries = own.chain([&layer.cluster]).flat_map(|entries| &entries.by_weight);
            entries.flat_map(|entry| entry.unmet(sources, is_enforced)).collect()
        };
        layers.into_iter().flat_map(of_layer).collect()
    }
}

impl Entry {
    fn unmet(&self, sources: &EvidenceSources, is_enforced: bool) -> Vec<Problem> {
        let matched: Vec<&EvidencedRegistry> =
            sources.registries.iter().filter(|registry| self.pattern.may_match(&registry.host)).collect();
        let lacks: Vec<BTreeSet<EvidenceLack>> = matched.iter().map(|registry| self.lacks(registry, sources)).collect();
        let all: BTreeSet<&EvidenceLack> = lacks.iter().flatten().collect();
        let problem = |lack: &EvidenceLack| {
            let of = matched.iter().zip(&lacks).filter(|(_, lacks)| lacks.contains(lack));
            let hosts: Vec<&str> = of.map(|(registry, _)| registry.host.as_str()).collect();
            let is_whole = hosts.len() == matched.len();
            // A denial that is only recorded does not prevent a pull.
            let is_warning = is_whole && is_enforced;
            let severity = if is_warning { ProblemSeverity::Warning } else { ProblemSeverity::Note };
            let hosts = some(&hosts);
            let (cause, hint) = lack.describe(&hosts);
            let which = if is_whole { "every image".to_owned() } else { format!("every image of {hosts}") };
            let effect = if is_enforced { "is denied" } else { "would be denied" };
            let message = format!("{cause}: {which} that this entry selects {effect}");
            self.at.problem(severity, message, hint)
        };
        all.into_iter().map(problem).collect()
    }

    /// The evidence that nothing can deliver under any rule of the entry: a cluster-wide entry may have other rules for
    /// some namespaces.
    fn lacks(&self, registry: &EvidencedRegistry, sources: &EvidenceSources) -> BTreeSet<EvidenceLack> {
        let of_rules = self.rules().map(|rule| rule.lacks(registry, sources));
        of_rules.reduce(|one, other| one.intersection(&other).cloned().collect()).unwrap_or_default()
    }
}

impl Rule {
    fn lacks(&self, registry: &EvidencedRegistry, sources: &EvidenceSources) -> BTreeSet<EvidenceLack> {
        let mut lacks = BTreeSet::new();
        if let Some(va) = &self.va {
            let needs_feeds = registry.has_va && va.incomplete == Behaviour::Deny;
            let wanted = [
                (EvidenceLack::Vulnerabilities, va.unscanned != Unscanned::Allow && !registry.has_va),
                (EvidenceLack::Kev, needs_feeds && va.exploited == Some(Behaviour::Deny) && !sources.has_kev),
                (EvidenceLack::Epss, needs_feeds && va.epss.is_some() && !sources.has_epss),
            ];
            lacks.extend(wanted.into_iter().filter(|(_, is_lacking)| *is_lacking).map(|(lack, _)| lack));
        }
        let unknown =
            |authority: &Arc<Authority>| Some((authority.id().clone(), sources.lack_of(authority, registry)?));
        let (ids, reasons): (Vec<AuthorityId>, Vec<EvidenceLack>) =
            self.authorities().iter().filter_map(unknown).unzip();
        // What rejects every image does so on purpose.
        if self.may_be_met_without(&[]) && !self.may_be_met_without(&ids) {
            lacks.extend(reasons);
        }
        lacks
    }
}

impl EvidenceSources {
    /// The registry with this host or alias.
    pub fn registry(&self, host: &Host) -> Option<&EvidencedRegistry> {
        self.registries.iter().find(|known| known.host == *host || known.aliases.contains(host))
    }

    /// Whether there may be clients with this namespace.
    pub(super) fn has_clients(&self, namespace: &str) -> bool {
        self.scopes.iter().any(|scope| scope.name() == Some(namespace))
    }

    /// Why no signature of an authority can be found for images of a registry.
    fn lack_of(&self, authority: &Authority, registry: &EvidencedRegistry) -> Option<EvidenceLack> {
        if authority.scheme().needs_notary_of_registry() && !registry.has_notary {
            return Some(EvidenceLack::Notary);
        }
        let host = &authority.signature_repository()?.host;
        let lack = || EvidenceLack::Signatures(authority.name().to_owned(), host.to_string());
        self.registry(host).is_none().then(lack)
    }
}

impl EvidenceLack {
    /// The missing configuration for images of these registries, and the remedy.
    fn describe(&self, hosts: &str) -> (String, &'static str) {
        match self {
            Self::Epss => (
                "epss needs FIRST's probabilities (EPSS), which are neither imported nor configured".to_owned(),
                "set va.database.epss, or import them with `pullgate db import`",
            ),
            Self::Kev => (
                "exploited: deny needs CISA's catalogue (KEV), which is neither imported nor configured".to_owned(),
                "set va.database.kev, or import it with `pullgate db import`",
            ),
            Self::Notary => (
                format!("no notary server is known for {hosts}"),
                "set `notary` of the [[upstream]] or `server` of the authority, or require another authority",
            ),
            Self::Signatures(authority, host) => (
                format!(
                    "the signatures of {authority:?} are stored in {host}, which is not the host of an [[upstream]]"
                ),
                "add an [[upstream]] with this host",
            ),
            Self::Vulnerabilities => (
                format!("UNSCANNED: no source of vulnerabilities knows images of {hosts}"),
                "set `trivy` or `osv` in [va.database], or `reports` in [va], or import a database with `pullgate db import`",
            ),
        }
    }
}

/// All of a short list, or one of a long one.
pub(super) fn some(hosts: &[&str]) -> String {
    match hosts {
        [first, ..] if hosts.len() > NAMED => format!("{} registries, such as {first}", hosts.len()),
        _ => hosts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Document, NoMaterials, Settings};

    /// reg.test has neither a source nor a notary server, icr.io has both.
    fn sources() -> EvidenceSources {
        let registry = |host: &str, is_known| EvidencedRegistry {
            host: host.parse().unwrap(),
            aliases: vec![format!("alias.{host}").parse().unwrap()],
            path: None,
            has_va: is_known,
            has_notary: is_known,
        };
        EvidenceSources {
            registries: vec![registry("reg.test", false), registry("icr.io", true)],
            ..Default::default()
        }
    }

    fn document(dialect: &str, spec: &str, name: &str, policy: &str) -> String {
        format!(
            "apiVersion: {dialect}\nkind: ClusterImagePolicy\nmetadata: {{name: d}}\nspec:\n{spec}  repositories:\n  - name: \
             '{name}'\n    policy: {policy}\n"
        )
    }

    fn unmet(text: &str, sources: &EvidenceSources) -> Vec<String> {
        let documents = [Document { path: "p.yaml".into(), text: text.into() }];
        let parsed = RuleSet::parse(&documents, &NoMaterials, &Settings::default());
        let rules = parsed.rules.unwrap_or_else(|| panic!("{:?}", parsed.problems));
        rules.unmet(sources).iter().map(ToString::to_string).collect()
    }

    const CISE: &str = "securityenforcement.admission.cloud.ibm.com/v1beta1";
    const PORTIERIS: &str = "portieris.cloud.ibm.com/v1";
    const OWN: &str = "pullgate.io/v1";

    #[test]
    fn entries_that_can_only_deny_are_named_with_their_place() {
        let unscanned = "warning: UNSCANNED: no source of vulnerabilities knows images of reg.test";
        let unsigned = "warning: no notary server is known for reg.test";
        for (dialect, name, policy, wanted) in [
            (OWN, "reg.test/*", "{va: {severity: high}}", unscanned),
            (OWN, "*.test/*", "{va: {unscanned: wait}}", unscanned),
            (OWN, "REG.test/app:v1", "{va: {}}", unscanned),
            (CISE, "reg.test/*", "{va: {enabled: true}}", unscanned),
            (PORTIERIS, "reg.test/*", "{vulnerability: {ICCRVA: {enabled: true}}}", unscanned),
            (CISE, "reg.test/*", "{trust: {enabled: true}}", unsigned),
            (PORTIERIS, "reg.test/*", "{trust: {enabled: true}}", unsigned),
            (OWN, "reg.test/*", "{trust: notary}", unsigned),
            (
                OWN,
                "*",
                "{va: {}}",
                "note: UNSCANNED: no source of vulnerabilities knows images of reg.test: every image of reg.test that",
            ),
            (OWN, "*", "{trust: notary}", "note: no notary server is known for reg.test: every image of reg.test that"),
            (OWN, "icr.io/*", "{va: {exploited: deny}}", "warning: exploited: deny needs CISA's catalogue"),
            (OWN, "icr.io/*", "{va: {epss: 0.5}}", "warning: epss needs FIRST's probabilities"),
        ] {
            let found = unmet(&document(dialect, "", name, policy), &sources());
            assert!(found.len() == 1 && found[0].contains(wanted), "{dialect} {name} {policy}\n{found:#?}");
            assert!(
                found[0].starts_with("p.yaml:6:") && found[0].contains("this entry selects is denied"),
                "{found:#?}"
            );
        }
    }

    #[test]
    fn entries_that_can_admit_something_are_not_named() {
        for (dialect, name, policy) in [
            (OWN, "icr.io/*", "{trust: notary, va: {}}"),
            (OWN, "reg.test/*", "{}"),
            (OWN, "reg.test/*", "{va: {unscanned: allow}}"),
            (OWN, "reg.test/*", "{trust: reject}"),
            (OWN, "other.test/*", "{va: {}}"),
            (OWN, "icr.io/*", "{va: {exploited: deny, incomplete: allow}}"),
            (CISE, "reg.test/*", "{trust: {enabled: true, trustServer: 'https://notary.test'}}"),
            (CISE, "reg.test/*", "{trust: {enabled: false}, va: {enabled: false}}"),
        ] {
            assert_eq!(unmet(&document(dialect, "", name, policy), &sources()), [""; 0], "{dialect} {name} {policy}");
        }
        let all = EvidenceSources { has_kev: true, has_epss: true, ..sources() };
        assert_eq!(unmet(&document(OWN, "", "icr.io/*", "{va: {exploited: deny, epss: 0.5}}"), &all), [""; 0]);
    }

    #[test]
    fn signatures_in_registries_that_are_no_upstream() {
        let key = rcgen::KeyPair::generate().unwrap().public_key_pem().replace('\n', "\\n");
        let spec = |host: &str| {
            let cosign = format!("{{key: {{data: \"{key}\"}}, repository: {host}/signatures}}");
            format!("  authorities:\n  - {{name: a, cosign: {cosign}}}\n")
        };
        for (host, is_known) in [("reg.test", true), ("icr.io", true), ("alias.icr.io", true), ("other.test", false)] {
            let found = unmet(&document(OWN, &spec(host), "reg.test/*", "{trust: a}"), &sources());
            let is_named =
                found.iter().any(|line| line.contains("the signatures of \"a\" are stored in other.test, which"));
            assert!(is_named != is_known && found.len() == usize::from(is_named), "{host} {found:#?}");
        }
        let either = document(OWN, &spec("other.test"), "icr.io/*", "{trust: {anyOf: [a, notary]}}");
        assert_eq!(unmet(&either, &sources()), [""; 0]);
    }

    #[test]
    fn policies_of_a_namespace_are_named_if_it_has_clients() {
        let own = document(OWN, "", "reg.test/*", "{va: {}}").replace("ClusterImagePolicy", "ImagePolicy");
        let own = own.replace("name: d}", "name: d, namespace: ci}");
        for (scope, named) in [("ci", 1), ("team", 0)] {
            let sources = EvidenceSources { scopes: vec![scope.parse().unwrap()], ..sources() };
            assert_eq!(unmet(&own, &sources).len(), named, "{scope}");
        }
    }

    #[test]
    fn audited_denials_are_would_deny() {
        let audited = document(OWN, "  mode: audit\n", "reg.test/*", "{va: {}}");
        let whole = EvidenceSources { audit: true, ..sources() };
        let enforced = document(OWN, "", "reg.test/*", "{va: {}}");
        for (text, sources) in [(audited, sources()), (enforced, whole)] {
            let found = unmet(&text, &sources);
            assert!(found[0].contains(": note: ") && found[0].contains("selects would be denied"), "{found:#?}");
        }
    }
}
