//! A scheme made for the test, beside those that are registered.

use futures_util::future::{BoxFuture, ready};

use super::super::scheme::{Attached, Origin, Verification};
use super::*;
use crate::oci::Tag;

const MARK: &str = "application/x-mark";

/// An image is signed for an authority when the authority's server is written in a layer that is attached to it. A
/// server `pin DIGEST` has signed that digest for every tag.
struct Marks;

impl SignatureScheme for Marks {
    fn name(&self) -> &'static str {
        "marks"
    }

    fn recognises(&self, attached: &Manifest) -> Option<&'static str> {
        self.select(attached, Origin::Referrer).is_ok_and(|layers| !layers.is_empty()).then_some("a mark")
    }

    fn select(&self, attached: &Manifest, _: Origin) -> Result<Vec<usize>, String> {
        let Content::Image { layers, .. } = &attached.content else { return Ok(vec![]) };
        Ok((0..layers.len()).filter(|index| layers[*index].media_type == MARK).collect())
    }

    fn verification(&self, _: &Arc<Manifest>, sought: &[Sought]) -> Box<dyn Verification> {
        let one = |sought: &Sought| (server(&sought.authority), sought.authority.signers(), vec![]);
        Box::new(Marked(sought.iter().map(one).collect()))
    }

    fn pin<'a>(
        &'a self,
        authority: &'a Authority,
        _: &'a ImageName,
        _: &'a Tag,
    ) -> Option<BoxFuture<'a, Result<Option<Digest>, SourceError>>> {
        let pinned = match server(authority).split_once(' ') {
            Some(("pin", digest)) => Ok(Some(digest.parse().unwrap())),
            Some(_) => Err(SourceError::new("no answer", true)),
            None => Ok(None),
        };
        Some(Box::pin(ready(pinned)))
    }
}

fn server(authority: &Authority) -> String {
    let Scheme::Notary { server, .. } = authority.scheme() else { panic!() };
    server.clone().unwrap_or_default()
}

struct Marked(Vec<(String, BTreeSet<String>, Vec<Signatory>)>);

impl Verification for Marked {
    fn read(&mut self, found: &[Attached]) {
        for Attached { layer, bytes, .. } in found {
            for (server, signers, signed) in &mut self.0 {
                if layer.media_type == MARK && *bytes == server.as_bytes() && signed.is_empty() {
                    let key = PublicKey::for_test(server);
                    let id = signers.first().unwrap().clone();
                    signed.push(Signatory { id, ..Signatory::of_key(&key, "mark".into()) });
                }
            }
        }
    }

    fn signed(&self, authority: usize) -> Vec<Signatory> {
        self.0[authority].2.clone()
    }

    fn possible(&self, authority: usize) -> BTreeSet<String> {
        self.0[authority].1.clone()
    }

    fn found(&self, _: usize) -> Vec<SignatureFinding> {
        Vec::new()
    }
}

const SCHEMES: Schemes = Schemes {
    of: |scheme| match scheme {
        Scheme::Notary { .. } => &Marks,
        other => Schemes::registered(other),
    },
    all: &[&Cosign, &Unverified, &Marks],
};

fn marks(server: &str) -> Arc<Authority> {
    Arc::new(Authority::new(server, Scheme::Notary { server: Some(server.into()), signers: vec![] }))
}

async fn trust(clock: &Clock) -> (Trust, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (Trust::with_schemes(SCHEMES, Config::default(), store.facts, clock.clone(), Tasks::new()), dir)
}

fn tag() -> Reference {
    Reference::Tag(Tag::latest())
}

#[tokio::test]
async fn schemes_share_a_search_and_read_what_they_understand() {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let ((trust, _dir), digest, signer) = (trust(&clock).await, image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mark = registry.push_blob(MARK, b"s".to_vec());
    let mark = registry.push(&manifest_json(&json!([mark]), Some(&digest)));
    let sbom = registry.push_blob("application/spdx+json", b"{}".to_vec());
    let sbom = registry.push(&manifest_json(&json!([sbom]), Some(&digest)));
    let strange = registry.bundle(&digest, &Signer::p256().bundle(&statement(&digest)));
    registry.api = Api::Pages(vec![vec![mark, sbom, strange]]);
    let registry = Arc::new(registry);
    let (cosign, signed, unsigned) = (signer.authority(), marks("s"), marks("t"));
    let authorities = [cosign.clone(), signed.clone(), unsigned.clone()];
    let evidence = trust.evidence(&registry, &name(), &Arc::new(image()), &authorities).await;
    let of = |authority: &Arc<Authority>| evidence.outcome(authority.id()).unwrap().clone();
    // Each scheme is told of its own signatures that failed; of another's it is told what they are; an SBOM is nothing.
    let TrustOutcome::Unverified { found } = of(&cosign).value else { panic!() };
    assert!(found.len() == 2 && found[0].to_string().contains("was not made by"), "{found:?}");
    assert!(found[1].to_string().contains("a mark, which this authority does not read"), "{found:?}");
    assert_eq!(of(&unsigned).value, TrustOutcome::Unverified { found: vec![] });
    // A scheme whose signatures do not hold on their own gives them an end.
    assert_eq!(of(&signed).until, Some(clock.now() + Config::default().ttl));
    assert!(matches!(of(&signed).value, TrustOutcome::Verified { .. }));
    let asked = registry.asked.lock().unwrap().clone();
    let once: BTreeSet<_> = asked.iter().collect();
    assert_eq!(once.len(), asked.len(), "everything is fetched once");
}

#[tokio::test]
async fn a_tag_is_pinned_to_the_digest_that_is_signed_for_it() {
    let (trust, _dir) = trust(&Clock::system()).await;
    let (one, other) = (Digest::sha256(b"one"), Digest::sha256(b"other"));
    let pinned = |digest: &Digest| marks(&format!("pin {digest}"));
    let cosign = Signer::p256().authority();
    for (authorities, expected) in [
        (vec![], None),
        (vec![cosign.clone()], None),
        (vec![marks("nothing")], None),
        (vec![cosign.clone(), pinned(&one)], Some(one)),
        (vec![pinned(&one), marks("nothing"), pinned(&one)], Some(one)),
    ] {
        assert_eq!(trust.pin(&name(), &tag(), &authorities).await, Ok(expected), "{authorities:?}");
    }
    let by_digest = Reference::Digest(other);
    assert_eq!(trust.pin(&name(), &by_digest, &[pinned(&one)]).await, Ok(None));
    for (authorities, temporary) in
        [(vec![pinned(&one), pinned(&other)], false), (vec![pinned(&one), marks("down now")], true)]
    {
        let error = trust.pin(&name(), &tag(), &authorities).await.unwrap_err();
        assert_eq!(error.temporary, temporary, "{error}");
    }
}

/// No scheme that is registered signs tags.
#[tokio::test]
async fn registered_schemes_pin_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let trust = Trust::new(Config::default(), store.facts, Clock::system(), Tasks::new());
    let authorities = [Signer::p256().authority(), marks("pin me")];
    assert_eq!(trust.pin(&name(), &tag(), &authorities).await, Ok(None));
}
