//! VEX statements from analyses.

use super::BomReader;
use super::affected::Affected;
use super::vulnerability::BomVulnerability;
use crate::policy::Purl;
use crate::va::reports::statement::{NamedImage, VexStatement};

/// The subject of a statement.
#[derive(Default)]
struct StatementScope {
    /// The subject of the document as a whole.
    subject: bool,
    images: Vec<NamedImage>,
    packages: Vec<Purl>,
    /// Whether it names something else, which cannot be identified.
    unknown: bool,
}

impl BomReader<'_> {
    /// The statements of an analysis. An error if it names nothing that can be identified.
    pub(super) fn statements(&self, vulnerability: &BomVulnerability) -> Result<Vec<VexStatement>, String> {
        let Some(suppresses) = vulnerability.suppresses() else { return Ok(Vec::new()) };
        let id = vulnerability.name();
        let mut ids = vulnerability.aliases();
        ids.push(id.to_owned());
        let at = vulnerability.updated().or(self.at);
        let parts = self.parts(self.scope(vulnerability, suppresses), suppresses);
        if parts.is_empty() {
            return Err(format!(
                "the statement on {id} names neither an image by digest nor a package by purl, \
                 or no version that it holds for"
            ));
        }
        let statement = |(images, packages)| VexStatement { ids: ids.clone(), images, packages, at, suppresses };
        Ok(parts.into_iter().map(statement).collect())
    }

    fn scope(&self, vulnerability: &BomVulnerability, suppresses: bool) -> StatementScope {
        let affects: Vec<&Affected> = vulnerability.affects.iter().flatten().collect();
        let mut scope = StatementScope { subject: affects.is_empty(), ..StatementScope::default() };
        for affected in affects {
            self.add(affected, suppresses, &mut scope);
        }
        scope
    }

    fn add(&self, affected: &Affected, suppresses: bool, scope: &mut StatementScope) {
        let reference = affected.local_ref();
        if self.subject_ref.as_ref() == Some(&reference) {
            let own = self.image.own.iter().map(ToString::to_string).collect::<Vec<_>>();
            let version = self.subject.and_then(|subject| subject.version.as_deref());
            scope.subject |= affected.is_about(own.iter().map(String::as_str).chain(version), suppresses);
            return;
        }
        let component = self.components.get(&*reference).and_then(|component| component.purl.as_deref());
        match Purl::parse(component.unwrap_or(&reference)) {
            Some(purl) if purl.is_image() && affected.is_about(purl.version().into_iter(), suppresses) => {
                let of_platform = purl.is_of_platform();
                let image = purl.image().map(|digest| NamedImage { digest, of_platform });
                scope.unknown |= image.is_none();
                scope.images.extend(image);
            }
            Some(purl) if !purl.is_image() => scope.packages.extend(affected.narrow(&purl, suppresses)),
            _ => scope.unknown = true,
        }
    }

    /// The images and the packages of each statement. A statement with only packages applies to any image only if the
    /// document has no subject and the statement names no image.
    ///
    /// A statement that takes an exemption back must not be lost because what it is about cannot be identified: it is
    /// then about its subject as a whole, or about the packages in any image, or about any image.
    fn parts(&self, scope: StatementScope, suppresses: bool) -> Vec<(Vec<NamedImage>, Vec<Purl>)> {
        let subject = self.subject_images();
        let mut parts = Vec::new();
        if !suppresses && (scope.unknown || scope.subject && subject.is_empty()) {
            parts.push((subject.clone(), Vec::new()));
        }
        let is_of_any = !suppresses || self.subject.is_none() && scope.images.is_empty();
        if !scope.packages.is_empty() && (!subject.is_empty() || is_of_any) {
            parts.push((subject.clone(), scope.packages));
        }
        if !scope.images.is_empty() {
            parts.push((scope.images, Vec::new()));
        }
        if scope.subject && !subject.is_empty() {
            parts.push((subject, Vec::new()));
        }
        parts
    }

    fn subject_images(&self) -> Vec<NamedImage> {
        let of_platform = self.subject.is_some_and(|subject| subject.purls().any(|purl| purl.is_of_platform()));
        let digests = self.image.own.iter().chain(&self.image.listed);
        digests.map(|digest| NamedImage { digest: *digest, of_platform }).collect()
    }
}
