//! Where cosign stores signatures, and in which forms.

use crate::oci::{Content, Descriptor, Manifest};
use crate::trust::scheme::Origin;

/// The layer type of a classic cosign signature (cosign, SIGNATURE_SPEC.md).
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The layer type of a classic cosign attestation, in the tag `.att`.
const ATTESTATION: &str = "application/vnd.dsse.envelope.v1+json";
/// The prefix of the media types of all Sigstore bundles.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Where cosign writes the signature of a classic payload; the text of the specification names another key.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The forms in which cosign stores signatures and attestations.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'a> {
    /// A DSSE envelope, with everything but the signature in annotations.
    Attestation(ClassicAnnotations<'a>),
    /// A Sigstore bundle.
    Bundle,
    /// A simple-signing payload, with everything else in annotations.
    Classic(ClassicAnnotations<'a>),
}

/// The annotations of a layer that holds a classic signature (cosign, pkg/oci/static/signature.go). Nothing in them is
/// signed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClassicAnnotations<'a> {
    /// The signature, in base64.
    pub(super) signature: Option<&'a str>,
    /// The signer's certificate, in PEM.
    pub(super) certificate: Option<&'a str>,
    /// The certificates above it, in PEM.
    pub(super) chain: Option<&'a str>,
    /// The entry in the transparency log, as JSON.
    pub(super) log_entry: Option<&'a str>,
    /// An RFC 3161 time stamp, as JSON.
    pub(super) timestamp: Option<&'a str>,
}

impl<'a> ClassicAnnotations<'a> {
    /// The annotations of a layer.
    pub(super) fn of(layer: &'a Descriptor) -> Self {
        Self {
            signature: layer.annotation(SIGNATURE),
            certificate: layer.annotation("dev.sigstore.cosign/certificate"),
            chain: layer.annotation("dev.sigstore.cosign/chain"),
            log_entry: layer.annotation("dev.sigstore.cosign/bundle"),
            timestamp: layer.annotation("dev.sigstore.cosign/rfc3161timestamp"),
        }
    }
}

impl<'a> Form<'a> {
    /// The form of a layer; `None` for a layer that is not cosign's.
    pub(super) fn of(layer: &'a Descriptor) -> Option<Self> {
        if layer.media_type == SIMPLE_SIGNING {
            Some(Self::Classic(ClassicAnnotations::of(layer)))
        } else if layer.media_type == ATTESTATION {
            Some(Self::Attestation(ClassicAnnotations::of(layer)))
        } else if layer.media_type.starts_with(BUNDLE) {
            Some(Self::Bundle)
        } else {
            None
        }
    }

    /// As messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Attestation(_) => "classic attestation",
            Self::Bundle => "bundle",
            Self::Classic(_) => "classic signature",
        }
    }
}

/// The layers that may hold signatures, by their index, most recent first: cosign appends.
///
/// # Errors
/// Why no signature in the manifest can count.
pub(super) fn select(attached: &Manifest, origin: Origin, wanted: Wanted) -> Result<Vec<usize>, String> {
    let classic = classic(attached, wanted);
    match (origin, &attached.content) {
        (Origin::Tag(_), _) if classic.is_empty() => Err(format!("holds no cosign {}", wanted.name())),
        (Origin::Referrer, Content::Image { layers, .. }) if layers.iter().any(is_bundle) => match layers.len() {
            1 => Ok(vec![0]),
            _ => Err("a bundle must be the only layer of its manifest".into()),
        },
        _ => Ok(classic),
    }
}

/// What is searched for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// Attestations about the image.
    Attestations,
    /// Signatures of the image.
    Signatures,
}

impl Wanted {
    /// One of them, as messages call it.
    fn name(self) -> &'static str {
        match self {
            Self::Attestations => "attestation",
            Self::Signatures => "signature",
        }
    }
}

fn classic(attached: &Manifest, wanted: Wanted) -> Vec<usize> {
    let expected = match wanted {
        Wanted::Attestations => ATTESTATION,
        Wanted::Signatures => SIMPLE_SIGNING,
    };
    let Content::Image { layers, .. } = &attached.content else { return Vec::new() };
    let found = layers.iter().enumerate().rev().filter(|(_, layer)| layer.media_type == expected);
    found.map(|(index, _)| index).collect()
}

fn is_bundle(layer: &Descriptor) -> bool {
    layer.media_type.starts_with(BUNDLE)
}
