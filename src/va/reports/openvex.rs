//! OpenVEX documents (github.com/openvex/spec, version 0.2.0): statements alone, never a report.

use serde::Deserialize;

use super::document::{Document, InvalidReport, Statement, read, some, text_or_nothing, time};
use super::purl::Purl;
use crate::oci::Digest;

/// Reads the statements. A product that is an image is known by digest or not at all; its subcomponents are packages
/// within it, and a product that is a package is that package in any image.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, InvalidReport> {
    let vex: Vex = read(bytes)?;
    let at = time(vex.last_updated.as_deref()).or_else(|| time(vex.timestamp.as_deref()));
    let mut document = Document::default();
    for claim in &vex.statements {
        let ids = claim.ids();
        let (Some(id), Some(suppresses)) = (ids.first(), claim.suppresses()) else {
            let why = "a statement without a vulnerability, a known status or a justification has no effect";
            document.notes.push(why.into());
            continue;
        };
        let at = time(claim.last_updated.as_deref()).or_else(|| time(claim.timestamp.as_deref())).or(at);
        if claim.products.iter().flatten().next().is_none() {
            document.notes.push(format!("the statement on {id} names no product and has no effect"));
        }
        for product in claim.products.iter().flatten() {
            match product.scope() {
                Some((images, packages)) => {
                    document.statements.push(Statement { ids: ids.clone(), images, packages, at, suppresses });
                }
                None => document
                    .notes
                    .push(format!("the statement on {id} names neither an image by digest nor a package by purl")),
            }
        }
    }
    Ok(document)
}

#[derive(Deserialize)]
struct Vex {
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    last_updated: Option<String>,
    statements: Vec<Claim>,
}

#[derive(Deserialize)]
struct Claim {
    vulnerability: Vulnerability,
    products: Option<Vec<Product>>,
    status: String,
    justification: Option<String>,
    impact_statement: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    last_updated: Option<String>,
}

impl Claim {
    fn ids(&self) -> Vec<String> {
        let aliases = self.vulnerability.aliases.iter().flatten();
        self.vulnerability.name.iter().chain(aliases).filter(|id| !id.is_empty()).cloned().collect()
    }

    /// `not_affected` must say why (specification, "Status Labels").
    fn suppresses(&self) -> Option<bool> {
        match &*self.status {
            "fixed" => Some(true),
            "not_affected" => {
                some(self.justification.clone()).or_else(|| some(self.impact_statement.clone())).map(|_| true)
            }
            "affected" | "under_investigation" => Some(false),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Vulnerability {
    name: Option<String>,
    aliases: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Product {
    #[serde(rename = "@id")]
    id: Option<String>,
    identifiers: Option<Identifiers>,
    subcomponents: Option<Vec<Self>>,
}

#[derive(Deserialize)]
struct Identifiers {
    purl: Option<String>,
}

impl Product {
    fn purl(&self) -> Option<Purl> {
        let purl = self.identifiers.as_ref().and_then(|identifiers| identifiers.purl.as_ref()).or(self.id.as_ref());
        purl.and_then(|text| Purl::parse(text))
    }

    /// The images and the packages in them; `None` where the product or a part of it cannot be told apart.
    fn scope(&self) -> Option<(Vec<Digest>, Vec<Purl>)> {
        let purl = self.purl()?;
        let parts: Option<Vec<Purl>> = self.subcomponents.iter().flatten().map(Self::purl).collect();
        match (purl.is_image(), parts?) {
            (true, parts) => Some((vec![purl.image()?], parts)),
            (false, parts) if parts.is_empty() => Some((Vec::new(), vec![purl])),
            // A package within a package is more than a report tells.
            (false, _) => None,
        }
    }
}
