//! CycloneDX JSON: a vulnerability disclosure report of an image, VEX statements, or both (CycloneDX 1.4 to 1.7,
//! `vulnerabilities`).
//!
//! An inventory with an empty list of vulnerabilities does not show whether nothing was found or nothing was scanned
//! (Trivy writes such a file unless told to scan), so it is not a report.

mod affected;
mod composition;
mod keys;
mod licence;
mod rating;
mod statement;
mod system;
mod vulnerability;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Deserialize;

use super::added::AddedFindings;
use super::details::{Lenient, PackageDetails};
use super::document::{
    ImageNames, InvalidReport, ReportFile, ReportFinding, ScannerReport, check_size, read, some, source,
    text_or_nothing, time,
};
use super::grype::major_and_minor;
use super::packages::{self, ListedPackage};
use crate::policy::{AffectedPackage, Issue, PackageList, Purl};
use affected::Affected;
use composition::Composition;
use licence::BomLicence;
use vulnerability::BomVulnerability;

/// Parses a document. It is a report if its subject is a container known by digest, it lists components, and at least
/// one vulnerability has no analysis: a list that consists only of analyses contains statements about those
/// vulnerabilities, and does not show that anything was scanned. Every analysis is also a statement.
///
/// What else the document finds in the subject is added to what others report: vulnerabilities whose analysis does not
/// exempt them, and those of a document that does not list components.
pub(super) fn parse(bytes: &[u8]) -> Result<ReportFile, InvalidReport> {
    let bom: Bom = read(bytes)?;
    keys::DOCUMENT.check(bytes)?;
    // Another major version may mean something else by the same words.
    if let Some(version) = bom.spec_version.filter(|version| version.split('.').next() != Some("1")) {
        return Err(InvalidReport::new(format!("CycloneDX {version} is not known")));
    }
    let metadata = bom.metadata.unwrap_or_default();
    // The schema also allows the components of the subject within it.
    let of_subject = metadata.component.as_ref().and_then(|subject| subject.components.as_deref());
    let listed: Vec<&Component> = bom.components.iter().flatten().chain(of_subject.into_iter().flatten()).collect();
    let mut components = HashMap::new();
    listed.iter().for_each(|component| component.collect(&mut components));
    let reader = BomReader {
        subject_ref: metadata.component.as_ref().and_then(|subject| subject.bom_ref.clone()),
        subject: metadata.component.as_ref(),
        image: metadata.component.as_ref().map(Component::image).unwrap_or_default(),
        components,
        at: time(metadata.timestamp.as_deref()),
        tool: BomTool::new(metadata.tools.as_ref()),
    };
    let vulnerabilities = bom.vulnerabilities.unwrap_or_default();
    let compositions = bom.compositions.unwrap_or_default();
    check_size(vulnerabilities.iter().map(BomVulnerability::size))?;
    let (mut statements, mut notes) = (Vec::new(), Vec::new());
    for vulnerability in vulnerabilities.iter().filter(|v| !reader.is_found(v)) {
        match reader.statements(vulnerability) {
            Ok(made) => statements.extend(made),
            Err(note) => notes.push(note),
        }
    }
    let assessment = reader.assessment(&listed, &vulnerabilities, &compositions);
    let added = if assessment.is_none() { reader.added(&vulnerabilities) } else { None };
    if assessment.is_none() && added.is_none() && statements.is_empty() && notes.is_empty() {
        return Err(InvalidReport::new(
            "a CycloneDX document without findings or VEX statements for an image known by digest: \
             an inventory alone is not a report",
        ));
    }
    Ok(ReportFile { image: reader.image, assessment, added, statements, notes })
}

/// The program that wrote a document.
struct BomTool {
    name: String,
    version: Option<String>,
}

impl BomTool {
    /// The first of the tools that a document names.
    fn new(tools: Option<&serde_json::Value>) -> Self {
        let list = |value: &serde_json::Value| value.as_array().and_then(|tools| tools.first().cloned());
        let first = tools.and_then(|tools| list(tools).or_else(|| tools.get("components").and_then(list)));
        let text = |key: &str| first.as_ref().and_then(|tool| tool.get(key)?.as_str()).map(str::to_owned);
        Self { name: text("name").unwrap_or_else(|| "cyclonedx".into()), version: text("version") }
    }

    /// Whether the program gives every vulnerability the state `in_triage`, which then is no analysis: Grype from 0.36
    /// to 0.54.
    fn fills_in_triage(&self) -> bool {
        let version = self.version.as_deref().and_then(major_and_minor);
        self.name == "grype" && version.is_some_and(|version| ((0, 36)..(0, 55)).contains(&version))
    }
}

struct BomReader<'a> {
    /// The subject's `bom-ref`.
    subject_ref: Option<String>,
    subject: Option<&'a Component>,
    /// The digests that identify the subject.
    image: ImageNames,
    components: HashMap<&'a str, &'a Component>,
    at: Option<Timestamp>,
    tool: BomTool,
}

impl BomReader<'_> {
    /// Whether an entry is the finding of a scanner: nobody has analysed it.
    fn is_found(&self, vulnerability: &BomVulnerability) -> bool {
        vulnerability.analysis.is_none() || self.tool.fills_in_triage() && vulnerability.is_in_triage()
    }

    /// The report of a scanner, if the document is one.
    fn assessment(
        &self,
        listed: &[&Component],
        vulnerabilities: &[BomVulnerability],
        compositions: &[Composition],
    ) -> Option<ScannerReport> {
        let is_report = !self.image.is_empty()
            && !self.components.is_empty()
            && vulnerabilities.iter().any(|v| self.is_found(v) && !self.findings(v).is_empty());
        if !is_report {
            return None;
        }
        let declared = compositions.iter().find_map(|composition| composition.missing(self.subject_ref.as_deref()));
        let (system, missing) = system::system(&self.tool, listed);
        Some(ScannerReport {
            source: source(&self.tool.name, self.tool.version.clone()),
            generated_at: self.at,
            incomplete: declared.or(missing),
            data_of: None,
            findings: vulnerabilities.iter().flat_map(|v| self.findings(v)).collect(),
            packages: self.packages(listed, vulnerabilities),
            system,
        })
    }

    /// What the document finds in the subject, if it is not the report of a scanner. An analysis in a document without
    /// components is only a statement: it rates nothing.
    fn added(&self, vulnerabilities: &[BomVulnerability]) -> Option<AddedFindings> {
        let counts = |v: &&BomVulnerability| match self.components.is_empty() {
            true => self.is_found(v),
            false => v.suppresses() != Some(true),
        };
        let findings: Vec<ReportFinding> = match self.image.is_empty() {
            true => Vec::new(),
            false => vulnerabilities.iter().filter(counts).flat_map(|v| self.findings(v)).collect(),
        };
        (!findings.is_empty()).then_some(AddedFindings { at: self.at, findings })
    }
}

impl BomReader<'_> {
    fn findings(&self, vulnerability: &BomVulnerability) -> Vec<ReportFinding> {
        let issue = vulnerability.issue();
        let stated = vulnerability.updated();
        let affects: Vec<&Affected> = vulnerability.affects.iter().flatten().collect();
        if affects.is_empty() {
            return vec![ReportFinding { stated, ..ReportFinding::new(issue) }];
        }
        let in_package = |affected: &Affected| {
            let package = self.package(vulnerability, affected);
            let unaffected = package.installed.as_deref().is_some_and(|installed| affected.spares(installed));
            let issue = Issue { packages: vec![package], ..issue.clone() };
            (!unaffected).then_some(ReportFinding { stated, ..ReportFinding::new(issue) })
        };
        affects.into_iter().filter_map(in_package).collect()
    }

    /// All packages that the document lists. Some tools list only those that have vulnerabilities: if all that are
    /// listed are affected by one, the list is not taken for that of all packages.
    fn packages(&self, components: &[&Component], vulnerabilities: &[BomVulnerability]) -> Option<PackageList> {
        let affected = vulnerabilities.iter().flat_map(|vulnerability| vulnerability.affects.iter().flatten());
        let affected: HashSet<String> = affected.map(Affected::local_ref).collect();
        let is_affected = |component: &Component| {
            component.bom_ref.as_ref().is_some_and(|reference| affected.contains(reference.as_str()))
        };
        let mut all = Vec::new();
        components.iter().for_each(|component| component.collect_packages(&mut all));
        if all.iter().all(|component| is_affected(component)) {
            return None;
        }
        packages::all(all.into_iter().map(Component::listed))
    }

    fn package(&self, vulnerability: &BomVulnerability, affected: &Affected) -> AffectedPackage {
        let reference = affected.local_ref();
        let component = self.components.get(&*reference);
        let text = component.and_then(|component| component.purl.as_deref());
        let text = text.filter(|text| Purl::parse(text).is_some()).unwrap_or(&reference);
        let purl = Purl::parse(text);
        let name = match (component, &purl) {
            (Some(component), _) => component.name.clone().unwrap_or_default(),
            (None, Some(purl)) => purl.name().to_owned(),
            (None, None) => reference.clone(),
        };
        let of_purl = || purl.as_ref().and_then(Purl::version).map(str::to_owned);
        let installed = component.and_then(|component| some(component.version.clone())).or_else(of_purl);
        let group = component.and_then(|component| component.group.as_deref());
        let fixed = affected.fixed(installed.as_deref()).or_else(|| vulnerability.recommended(group, &name));
        let details = component.map(|component| component.details()).unwrap_or_default();
        PackageDetails { purl: Some(text), ..details }.of(name, installed, fixed)
    }
}

#[derive(Deserialize)]
struct Bom {
    #[serde(rename = "specVersion", default, deserialize_with = "text_or_nothing")]
    spec_version: Option<String>,
    metadata: Option<BomMetadata>,
    components: Option<Vec<Component>>,
    vulnerabilities: Option<Vec<BomVulnerability>>,
    compositions: Option<Vec<Composition>>,
}

#[derive(Default, Deserialize)]
struct BomMetadata {
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
    /// An array before version 1.5, an object since.
    tools: Option<serde_json::Value>,
    component: Option<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "bom-ref")]
    bom_ref: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    group: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    purl: Option<String>,
    licenses: Option<Lenient<Vec<Lenient<BomLicence>>>>,
    hashes: Option<Vec<Hash>>,
    properties: Option<Vec<Property>>,
    #[serde(default)]
    evidence: Lenient<ComponentEvidence>,
    components: Option<Vec<Self>>,
}

#[derive(Deserialize)]
struct ComponentEvidence {
    #[serde(default)]
    occurrences: Lenient<Vec<Lenient<Occurrence>>>,
}

#[derive(Deserialize)]
struct Occurrence {
    location: Option<String>,
}

#[derive(Deserialize)]
struct Hash {
    #[serde(default, deserialize_with = "text_or_nothing")]
    alg: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Property {
    #[serde(default, deserialize_with = "text_or_nothing")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    value: Option<String>,
}

impl Component {
    fn collect<'a>(&'a self, into: &mut HashMap<&'a str, &'a Self>) {
        if let Some(reference) = &self.bom_ref {
            into.insert(reference, self);
        }
        self.components.iter().flatten().for_each(|component| component.collect(into));
    }

    /// This component and those in it that are packages.
    fn collect_packages<'a>(&'a self, into: &mut Vec<&'a Self>) {
        if self.is_package() {
            into.push(self);
        }
        self.components.iter().flatten().for_each(|component| component.collect_packages(into));
    }

    /// Files, systems and applications are packages only if they have a package URL that is not one of an image.
    fn is_package(&self) -> bool {
        match self.purl.as_deref().and_then(Purl::parse) {
            Some(purl) => !purl.is_image(),
            None => matches!(self.kind.as_deref(), None | Some("library" | "framework")),
        }
    }

    /// The package; `None` if a part of it cannot be read that policies depend on.
    fn listed(&self) -> Option<ListedPackage<'_>> {
        let licences = match &self.licenses {
            None => Vec::new(),
            Some(list) => list.0.as_ref()?.iter().map(|entry| entry.0.as_ref()?.text()).collect::<Option<_>>()?,
        };
        let details = self.details();
        let property = |ending| self.properties(ending).next().map(String::as_str);
        let source_version = property("SrcVersion")
            .filter(|version| !version.is_empty())
            .map(|version| packages::joined_version(property("SrcEpoch"), Some(version), property("SrcRelease")));
        Some(ListedPackage {
            name: self.name.as_deref(),
            group: self.group.as_deref(),
            version: self.version.as_deref(),
            purl: self.purl.as_deref(),
            licences,
            path: details.path,
            source: details.source,
            source_version,
        })
    }

    /// The digests of a container. Labels and layers are also properties, and a label may name the base image: only the
    /// properties below identify the image itself.
    fn image(&self) -> ImageNames {
        if self.kind.as_deref() != Some("container") {
            return ImageNames::default();
        }
        let purls = self.purls().filter_map(|purl| purl.image()).map(|digest| digest.to_string());
        let hashes = self.hashes.iter().flatten().filter_map(Hash::digest);
        let own: Vec<_> = purls.chain(hashes).chain(self.version.clone()).collect();
        let listed = self.properties("RepoDigest");
        let properties = ["ImageID", "imageID", "manifestDigest"].into_iter().flat_map(|name| self.properties(name));
        ImageNames::new(own.iter().chain(properties), listed)
    }

    /// Details that Trivy and Syft write as properties, and CycloneDX 1.5 as evidence.
    fn details(&self) -> PackageDetails<'_> {
        let property = |ending| self.properties(ending).next().map(String::as_str);
        let occurrences = self.evidence.0.iter().flat_map(|evidence| evidence.occurrences.entries());
        let occurrence = occurrences.filter_map(|occurrence| occurrence.location.as_deref()).next();
        PackageDetails {
            purl: None,
            kind: property("PkgType"),
            source: property("SrcName"),
            path: occurrence.or_else(|| property("FilePath")).or_else(|| property("path")),
            layer: property("LayerDiffID").or_else(|| property("layerID")),
        }
    }

    fn purls(&self) -> impl Iterator<Item = Purl> {
        self.purl.iter().chain(&self.bom_ref).filter_map(|text| Purl::parse(text))
    }

    /// The values of the properties whose names have this ending.
    fn properties<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = &'a String> {
        let properties = self.properties.iter().flatten();
        let named = properties.filter(move |property| {
            let name = property.name.as_deref().unwrap_or_default();
            !name.contains("label") && name.rsplit(':').next() == Some(ending)
        });
        named.filter_map(|property| property.value.as_ref())
    }
}

impl Hash {
    fn digest(&self) -> Option<String> {
        let algorithm = self.alg.as_ref()?.to_ascii_lowercase().replace('-', "");
        Some(format!("{algorithm}:{}", self.content.as_ref()?))
    }
}
