//! OpenVEX documents (github.com/openvex/spec, version 0.2.0). They contain statements and are never a report.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::document::{InvalidReport, ReportFile, digest_of, read, some, text_or_nothing, time};
use super::letter_case::KnownKeys;
use super::statement::{NamedImage, VexStatement};
use crate::oci::Digest;
use crate::oci::json::folds_to;
use crate::policy::Purl;

/// The defined justifications for why an image is not affected (specification, "Status Justifications").
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];

static DOCUMENT: KnownKeys = KnownKeys::flat(&["@context", "last_updated", "statements", "timestamp"]);
static STATEMENT: KnownKeys = KnownKeys {
    plain: &["impact_statement", "justification", "last_updated", "status", "timestamp"],
    objects: &[("products", &PRODUCT), ("vulnerability", &VULNERABILITY)],
    maps: &[],
};
static VULNERABILITY: KnownKeys = KnownKeys::flat(&["@id", "aliases", "name"]);
static PRODUCT: KnownKeys = KnownKeys {
    plain: &["@id", "hashes"],
    objects: &[("identifiers", &IDENTIFIERS), ("subcomponents", &PRODUCT)],
    maps: &[],
};
static IDENTIFIERS: KnownKeys = KnownKeys::flat(&["purl"]);

/// Parses the statements. A product that is an image must be named by digest; its subcomponents are packages in it. A
/// product that is a package means that package in any image.
///
/// A statement that withdraws an exemption must not be lost because a part of it is unreadable. It then counts as
/// unrestricted in that part: it is about the image as a whole, or about any image.
pub(super) fn parse(bytes: &[u8]) -> Result<ReportFile, InvalidReport> {
    let vex: Vex = read(bytes)?;
    DOCUMENT.check(bytes)?;
    let mut document = ReportFile::default();
    for text in &vex.statements {
        // From the text, so that a key that occurs twice is noticed.
        let clear = STATEMENT.check(text.get().as_bytes());
        let claim = clear.clone().and_then(|()| read(text.get().as_bytes())).unwrap_or_else(|error| {
            document.notes.push(format!("a statement cannot be read: {error}"));
            let claim = VexClaim::of_unreadable(&serde_json::from_str(text.get()).unwrap_or_default());
            // Of two statuses, either may be the one that takes an exemption back.
            match (&clear, serde_json::from_str::<OneStatus>(text.get())) {
                (Ok(()), Ok(_)) => claim,
                (Ok(()), Err(_)) => VexClaim { status: String::new(), ..claim },
                // The same holds for two times.
                (Err(_), _) => VexClaim { status: String::new(), timestamp: Some(String::new()), ..claim },
            }
        });
        let (ids, suppresses) = (claim.ids(), claim.suppresses());
        let (Some(id), Some(suppresses)) = (ids.first(), suppresses) else {
            let why = "a statement without a vulnerability or a justification has no effect";
            document.notes.push(why.into());
            continue;
        };
        let at = moment(&vex, &claim, suppresses);
        let mut state = |(images, packages)| {
            document.statements.push(VexStatement { ids: ids.clone(), images, packages, at, suppresses });
        };
        let effect = if suppresses { "has no effect" } else { "ends earlier exemptions in any image" };
        if claim.products.iter().flatten().next().is_none() {
            if !suppresses {
                state(Default::default());
            }
            document.notes.push(format!("the statement on {id} names no product and {effect}"));
        }
        for product in claim.products.iter().flatten() {
            match product.scope() {
                Some(scope) => state(scope),
                None if !suppresses => state(product.widest_scope()),
                None => document
                    .notes
                    .push(format!("the statement on {id} names neither an image by digest nor a package by purl")),
            }
        }
    }
    Ok(document)
}

/// When a statement was made: its own time, else that of the document. Documents are also updated for other reasons, so
/// `last_updated` makes no statement later that exempts; it does for one that does not. A time that cannot be read is
/// not replaced by another.
fn moment(vex: &Vex, claim: &VexClaim, suppresses: bool) -> Option<Timestamp> {
    let made = claim.timestamp.as_deref().or(vex.timestamp.as_deref());
    if suppresses {
        return time(made);
    }
    let updated = claim.last_updated.as_deref().or(vex.last_updated.as_deref());
    let times: Vec<Option<Timestamp>> = [made, updated].into_iter().flatten().map(|at| time(Some(at))).collect();
    if times.contains(&None) { None } else { times.into_iter().flatten().max() }
}

#[derive(Deserialize)]
struct Vex {
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    last_updated: Option<String>,
    /// Read one by one, so that one that cannot be read does not lose the others.
    statements: Vec<Box<RawValue>>,
}

/// Can be read if a statement has exactly one status, whatever else is wrong with it.
#[derive(Deserialize)]
struct OneStatus {
    #[serde(rename = "status")]
    _status: IgnoredAny,
}

#[derive(Deserialize)]
struct VexClaim {
    vulnerability: VexVulnerability,
    products: Option<Vec<Product>>,
    status: String,
    justification: Option<String>,
    impact_statement: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    last_updated: Option<String>,
}

impl VexClaim {
    /// The readable part of a malformed statement. It names no product, so it exempts nothing, and if it withdraws an
    /// exemption, it is about any image.
    fn of_unreadable(value: &serde_json::Value) -> Self {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let text_of = |value: &serde_json::Value, key: &str| member(value, key).and_then(text);
        let nothing = serde_json::Value::Null;
        let vulnerability = member(value, "vulnerability").unwrap_or(&nothing);
        let aliases = member(vulnerability, "aliases").and_then(serde_json::Value::as_array);
        Self {
            vulnerability: VexVulnerability {
                id: text_of(vulnerability, "@id"),
                // A text in version 0.0.1.
                name: text(vulnerability).or_else(|| text_of(vulnerability, "name")),
                aliases: aliases.map(|aliases| aliases.iter().filter_map(text).collect()),
            },
            products: None,
            status: text_of(value, "status").unwrap_or_default(),
            justification: None,
            impact_statement: None,
            timestamp: text_of(value, "timestamp"),
            last_updated: text_of(value, "last_updated"),
        }
    }

    /// The identifiers of the vulnerability. A statement that takes an exemption back may also name it by the end of an
    /// address alone.
    fn ids(&self) -> Vec<String> {
        let VexVulnerability { id, name, aliases } = &self.vulnerability;
        let of_address = id.as_deref().filter(|_| self.suppresses() == Some(false)).map(|address| {
            let address = address.trim().trim_end_matches('/');
            address.rsplit(['/', '#', '?', '=', '&']).next().unwrap_or_default()
        });
        let named = name.iter().chain(aliases.iter().flatten()).map(String::as_str);
        let ids = named.chain(of_address).map(str::trim).filter(|id| !id.is_empty());
        ids.map(str::to_owned).collect()
    }

    /// `not_affected` requires a reason: a defined justification or a text (specification, "Status Labels").
    fn suppresses(&self) -> Option<bool> {
        match &*self.status {
            "fixed" => Some(true),
            "not_affected" => match some(self.justification.clone()) {
                Some(word) => JUSTIFICATIONS.contains(&&*word).then_some(true),
                None => some(self.impact_statement.clone()).map(|_| true),
            },
            // A status that is not known may be a misspelt `affected`.
            _ => Some(false),
        }
    }
}

/// A member of a malformed object, also by a key in other letters.
fn member<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    let members = value.as_object()?;
    members.get(key).or_else(|| members.iter().find(|(other, _)| folds_to(other, key)).map(|(_, value)| value))
}

#[derive(Deserialize)]
struct VexVulnerability {
    #[serde(rename = "@id")]
    id: Option<String>,
    name: Option<String>,
    aliases: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Product {
    #[serde(rename = "@id")]
    id: Option<String>,
    identifiers: Option<Identifiers>,
    hashes: Option<BTreeMap<String, String>>,
    subcomponents: Option<Vec<Self>>,
}

#[derive(Deserialize)]
struct Identifiers {
    purl: Option<String>,
}

impl Product {
    /// The product's package URL; `None` if it has none, or several that contradict each other.
    fn purl(&self) -> Option<Purl> {
        let identifiers = self.identifiers.as_ref().and_then(|identifiers| identifiers.purl.as_ref());
        let id = self.id.as_deref().and_then(Purl::parse);
        let purl = match (identifiers, id) {
            (None, id) => id?,
            (Some(text), None) => Purl::parse(text)?,
            (Some(text), Some(id)) => narrower(Purl::parse(text)?, id)?,
        };
        let of_id = self.id.as_deref().and_then(digest_of);
        let named = purl.image().map(|digest| digest.to_string());
        let fits = |other: &String| named.as_ref().is_none_or(|named| !contradicts(named, other));
        of_id.map(|digest| digest.to_string()).iter().chain(&self.hashes()).all(fits).then_some(purl)
    }

    /// Its hashes in the format of digests.
    fn hashes(&self) -> Vec<String> {
        let hashes = self.hashes.iter().flatten();
        let digest = |(name, hash): (&String, &String)| {
            format!("{}:{}", name.to_ascii_lowercase().replace('-', ""), hash.to_ascii_lowercase())
        };
        hashes.map(digest).collect()
    }

    /// The digest of an image that has no package URL: in `name@sha256:…`, or one of its hashes.
    fn digest(&self) -> Option<Digest> {
        let has_purl = self.identifiers.as_ref().is_some_and(|identifiers| identifiers.purl.is_some());
        if has_purl || self.id.as_deref().is_some_and(|id| id.starts_with("pkg:")) {
            return None;
        }
        let hashes = self.hashes();
        let of_id = self.id.as_deref().and_then(digest_of);
        let digest = of_id.or_else(|| hashes.iter().find_map(|hash| hash.parse().ok()))?;
        let named = digest.to_string();
        hashes.iter().all(|hash| !contradicts(&named, hash)).then_some(digest)
    }

    /// The image that the product is, if it is one and is named by digest.
    fn image(&self) -> Option<NamedImage> {
        match self.purl() {
            Some(purl) => Some(NamedImage { digest: purl.image()?, of_platform: purl.is_of_platform() }),
            None => Some(NamedImage { digest: self.digest()?, of_platform: false }),
        }
    }

    /// The packages in it; `None` if one cannot be identified.
    fn parts(&self) -> Option<Vec<Purl>> {
        self.subcomponents.iter().flatten().map(|part| part.purl().filter(|purl| !purl.is_image())).collect()
    }

    /// The images and the packages in them; `None` if the product or a part of it cannot be identified.
    fn scope(&self) -> Option<(Vec<NamedImage>, Vec<Purl>)> {
        let parts = self.parts()?;
        match self.purl().filter(|purl| !purl.is_image()) {
            None => Some((vec![self.image()?], parts)),
            Some(package) if parts.is_empty() => Some((Vec::new(), vec![package])),
            // Reports do not state which package contains which.
            Some(_) => None,
        }
    }

    /// The images and the packages that a statement may be about, if [`Self::scope`] does not say it.
    fn widest_scope(&self) -> (Vec<NamedImage>, Vec<Purl>) {
        let package = self.purl().filter(|purl| !purl.is_image());
        let packages = package.map_or_else(|| self.parts().unwrap_or_default(), |package| vec![package]);
        (self.image().into_iter().collect(), packages)
    }
}

/// The more specific of two package URLs of one product; `None` if neither covers the other.
fn narrower(a: Purl, b: Purl) -> Option<Purl> {
    if a.covers(&b) {
        Some(b)
    } else if b.covers(&a) {
        Some(a)
    } else {
        None
    }
}

/// Whether two digests with the same algorithm differ.
fn contradicts(a: &str, b: &str) -> bool {
    let algorithm = |digest: &str| digest.split(':').next().map(str::to_owned);
    a != b && algorithm(a) == algorithm(b)
}
