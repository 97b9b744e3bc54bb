//! CycloneDX JSON: a vulnerability disclosure report of an image, VEX statements, or both (CycloneDX 1.4 to 1.7,
//! `vulnerabilities`).
//!
//! An inventory whose list of vulnerabilities is empty looks the same whether nothing was found or nothing was looked
//! for (Trivy writes it so unless told to scan), so it is no report.

use std::collections::HashMap;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::document::{
    Assessment, Document, Finding, InvalidReport, Statement, digest_of, read, severity, some, source, text_or_nothing,
    time,
};
use super::purl::Purl;
use crate::oci::Digest;
use crate::policy::{AffectedPackage, IssueKind, Severity};
use crate::va::one_line;

/// Reads a document. It is a report when its subject is a container known by digest, it lists components, and at least
/// one vulnerability is not analysed away: a list of nothing but `not_affected` is what somebody says about those few,
/// not what a scanner found. Every analysis is a statement too.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, InvalidReport> {
    let bom: Bom = read(bytes)?;
    let metadata = bom.metadata.unwrap_or_default();
    let at = time(metadata.timestamp.as_deref());
    let mut components = HashMap::new();
    bom.components.iter().flatten().for_each(|component| component.collect(&mut components));
    let reader = Reader {
        subject_ref: metadata.component.as_ref().and_then(|subject| subject.bom_ref.clone()),
        has_subject: metadata.component.is_some(),
        subjects: metadata.component.as_ref().map(Component::digests).unwrap_or_default(),
        components,
        at,
    };
    let vulnerabilities = bom.vulnerabilities.unwrap_or_default();
    let open = vulnerabilities.iter().any(|v| v.suppresses() != Some(true));
    let is_report = !reader.subjects.is_empty() && !reader.components.is_empty() && open;
    let (mut statements, mut notes) = (Vec::new(), Vec::new());
    for vulnerability in &vulnerabilities {
        match reader.statement(vulnerability) {
            Some(Ok(statement)) => statements.push(statement),
            Some(Err(note)) => notes.push(note),
            None => {}
        }
    }
    let assessment = is_report.then(|| Assessment {
        source: scanner(metadata.tools.as_ref()),
        generated_at: at,
        incomplete: None,
        findings: vulnerabilities.iter().flat_map(|v| reader.findings(v)).collect(),
    });
    if assessment.is_none() && statements.is_empty() && notes.is_empty() {
        return Err(InvalidReport::new(
            "a CycloneDX document without findings or VEX statements for an image known by digest: \
             an inventory alone is no report",
        ));
    }
    Ok(Document { subjects: reader.subjects, assessment, statements, notes })
}

fn scanner(tools: Option<&serde_json::Value>) -> String {
    let list = |value: &serde_json::Value| value.as_array().and_then(|tools| tools.first().cloned());
    let first = tools.and_then(|tools| list(tools).or_else(|| tools.get("components").and_then(list)));
    let text = |key: &str| first.as_ref().and_then(|tool| tool.get(key)?.as_str()).map(str::to_owned);
    source(&text("name").unwrap_or_else(|| "cyclonedx".into()), text("version"))
}

struct Reader<'a> {
    /// The subject's `bom-ref`.
    subject_ref: Option<String>,
    has_subject: bool,
    /// The digests by which the subject is known.
    subjects: Vec<Digest>,
    components: HashMap<&'a str, &'a Component>,
    at: Option<Timestamp>,
}

impl Reader<'_> {
    fn findings(&self, vulnerability: &Vulnerability) -> Vec<Finding> {
        let finding = Finding {
            id: vulnerability.id.clone(),
            aliases: vulnerability.aliases(),
            kind: IssueKind::Vulnerability,
            severity: vulnerability.severity(),
            package: None,
            purl: None,
            exempt: vulnerability.suppresses() == Some(true),
            title: one_line(vulnerability.description.clone()),
        };
        let affects: Vec<&Affected> = vulnerability.affects.iter().flatten().collect();
        if affects.is_empty() {
            return vec![finding];
        }
        let in_package = |affected: &&Affected| {
            let (package, purl) = self.package(vulnerability, affected);
            Finding { package: Some(package), purl, ..finding.clone() }
        };
        affects.iter().map(in_package).collect()
    }

    fn package(&self, vulnerability: &Vulnerability, affected: &Affected) -> (AffectedPackage, Option<Purl>) {
        let reference = local_ref(&affected.reference);
        let component = self.components.get(&*reference);
        let purl = component.and_then(|c| c.purl.as_deref()).and_then(Purl::parse).or_else(|| Purl::parse(&reference));
        let name = match (component, &purl) {
            (Some(component), _) => component.name.clone(),
            (None, Some(purl)) => purl.name().to_owned(),
            (None, None) => reference,
        };
        let of_purl = || purl.as_ref().and_then(Purl::version).map(str::to_owned);
        let installed = component.and_then(|c| some(c.version.clone())).or_else(of_purl);
        let fixed = affected.fixed().or_else(|| vulnerability.recommended(&name));
        (AffectedPackage { name, installed, fixed }, purl)
    }

    /// The statement that an analysis makes; an error where it names nothing that can be told apart.
    fn statement(&self, vulnerability: &Vulnerability) -> Option<Result<Statement, String>> {
        let suppresses = vulnerability.suppresses()?;
        let (mut images, mut packages, mut whole) = (self.subjects.clone(), Vec::new(), false);
        let references: Vec<_> = vulnerability.affects.iter().flatten().map(|a| local_ref(&a.reference)).collect();
        for reference in &references {
            let component = self.components.get(&**reference).and_then(|c| c.purl.clone());
            if self.subject_ref.as_ref() == Some(reference) {
                whole = true;
                continue;
            }
            match Purl::parse(component.as_deref().unwrap_or(reference)) {
                Some(purl) if purl.is_image() => {
                    whole |= purl.image().is_some();
                    images.extend(purl.image());
                }
                Some(purl) => packages.push(purl),
                None => {}
            }
        }
        if whole || references.is_empty() {
            packages.clear();
        }
        // Packages alone name any image only where the document has no product of its own.
        let named = match (images.is_empty(), packages.is_empty()) {
            (false, false) => true,
            (false, true) => whole || references.is_empty(),
            (true, false) => !self.has_subject,
            (true, true) => false,
        };
        let id = &vulnerability.id;
        if !named {
            return Some(Err(format!("the statement on {id} names neither an image by digest nor a package by purl")));
        }
        let mut ids = vulnerability.aliases();
        ids.push(id.clone());
        let at = vulnerability.analysis.as_ref().and_then(|a| time(a.last_updated.as_deref())).or(self.at);
        Some(Ok(Statement { ids, images, packages, at, suppresses }))
    }
}

/// The `bom-ref` in a BOM-Link (`urn:cdx:SERIAL/VERSION#REF`), or the text as it stands.
fn local_ref(reference: &str) -> String {
    match reference.strip_prefix("urn:cdx:").and_then(|link| link.split_once('#')) {
        Some((_, fragment)) => percent_decode_str(fragment).decode_utf8_lossy().into_owned(),
        None => reference.to_owned(),
    }
}

#[derive(Deserialize)]
struct Bom {
    metadata: Option<Metadata>,
    components: Option<Vec<Component>>,
    vulnerabilities: Option<Vec<Vulnerability>>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
    /// An array before 1.5, an object since.
    tools: Option<serde_json::Value>,
    component: Option<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "bom-ref")]
    bom_ref: Option<String>,
    #[serde(default)]
    name: String,
    version: Option<String>,
    purl: Option<String>,
    hashes: Option<Vec<Hash>>,
    properties: Option<Vec<Property>>,
    components: Option<Vec<Self>>,
}

#[derive(Deserialize)]
struct Hash {
    alg: String,
    content: String,
}

#[derive(Deserialize)]
struct Property {
    name: Option<String>,
    value: Option<String>,
}

impl Component {
    fn collect<'a>(&'a self, into: &mut HashMap<&'a str, &'a Self>) {
        if let Some(reference) = &self.bom_ref {
            into.insert(reference, self);
        }
        self.components.iter().flatten().for_each(|component| component.collect(into));
    }

    /// The digests of a container. Labels and layers are properties too, and a label may name the base image: only the
    /// names below speak of the image itself.
    fn digests(&self) -> Vec<Digest> {
        if self.kind.as_deref() != Some("container") {
            return Vec::new();
        }
        let of_purl = |text: &String| Purl::parse(text).and_then(|purl| purl.image());
        let purls = self.purl.iter().chain(&self.bom_ref).filter_map(of_purl);
        let version = self.version.iter().filter_map(|text| text.parse().ok());
        let hashes = self.hashes.iter().flatten().filter_map(|hash| {
            format!("{}:{}", hash.alg.to_ascii_lowercase().replace('-', ""), hash.content).parse().ok()
        });
        let properties = self.properties.iter().flatten().filter_map(|property| {
            let name = property.name.as_deref()?;
            let own = !name.contains("label")
                && matches!(name.rsplit(':').next()?, "ImageID" | "RepoDigest" | "imageID" | "manifestDigest");
            own.then(|| digest_of(property.value.as_deref()?)).flatten()
        });
        let mut digests: Vec<_> = purls.chain(version).chain(hashes).chain(properties).collect();
        digests.sort_unstable();
        digests.dedup();
        digests
    }
}

#[derive(Deserialize)]
struct Vulnerability {
    id: String,
    references: Option<Vec<Reference>>,
    ratings: Option<Vec<Rating>>,
    description: Option<String>,
    recommendation: Option<String>,
    affects: Option<Vec<Affected>>,
    analysis: Option<Analysis>,
}

#[derive(Deserialize)]
struct Reference {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Rating {
    severity: Option<String>,
    score: Option<f64>,
}

#[derive(Deserialize)]
struct Affected {
    #[serde(rename = "ref")]
    reference: String,
    versions: Option<Vec<Version>>,
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Analysis {
    state: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    last_updated: Option<String>,
}

impl Affected {
    fn fixed(&self) -> Option<String> {
        let unaffected = self.versions.iter().flatten().filter(|v| v.status.as_deref() == Some("unaffected"));
        unaffected.filter_map(|v| some(v.version.clone())).next()
    }
}

impl Vulnerability {
    fn aliases(&self) -> Vec<String> {
        self.references.iter().flatten().filter_map(|r| some(r.id.clone())).filter(|id| *id != self.id).collect()
    }

    /// Whether the analysis says that the product is not affected; `None` where there is no analysis.
    fn suppresses(&self) -> Option<bool> {
        let state = self.analysis.as_ref()?.state.as_deref()?;
        Some(matches!(state, "not_affected" | "false_positive" | "resolved" | "resolved_with_pedigree"))
    }

    /// The worst of all ratings; a rating that says nothing counts only where no other says anything.
    fn severity(&self) -> Severity {
        let ratings = self.ratings.iter().flatten().filter_map(Rating::severity);
        ratings.max_by_key(|severity| *severity as u8).unwrap_or(Severity::Unknown)
    }

    /// Trivy's `Upgrade NAME to version VERSION`; other advice, whatever it is, means that something can be done.
    fn recommended(&self, name: &str) -> Option<String> {
        let advice = some(self.recommendation.clone())?;
        let prefix = format!("Upgrade {name} to version ");
        match advice.split("; ").find_map(|part| part.trim().strip_prefix(&prefix)) {
            Some(version) => Some(version.to_owned()),
            None => one_line(Some(advice)),
        }
    }
}

impl Rating {
    fn severity(&self) -> Option<Severity> {
        match self.severity.as_deref() {
            None | Some("unknown") => self.score.and_then(of_score),
            Some("none" | "info") => Some(Severity::Negligible),
            Some(word) => Some(severity(Some(word))),
        }
    }
}

/// CVSS 3.1 §5, the qualitative scale.
fn of_score(score: f64) -> Option<Severity> {
    match score {
        s if s >= 9.0 => Some(Severity::Critical),
        s if s >= 7.0 => Some(Severity::High),
        s if s >= 4.0 => Some(Severity::Medium),
        s if s > 0.0 => Some(Severity::Low),
        _ => None,
    }
}
