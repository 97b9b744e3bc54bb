//! One question about an image: the stored evidence, and a search for the rest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::consultations::ReportResult;
use super::finding::{AuthorityFinding, with_earlier_signatures};
use super::gather::{GatherRequest, GatheredResult, gather};
use super::scheme::{AuthorityResult, Sought};
use super::settled::Signers;
use super::source::SignatureSource;
use super::{Inner, ObservedFindings, ReportKnown, TROUBLE_TTL};
use crate::oci::{ImageName, Manifest, Reference};
use crate::policy::{Authority, Observed, SameSigner, TrustOutcome, Unseen};

/// One question: which of these authorities have signed this image?
#[derive(Clone)]
pub(super) struct SignatureQuestion {
    pub(super) name: ImageName,
    /// The reference as it was pulled. A digest is always that of the image.
    pub(super) reference: Reference,
    pub(super) image: Arc<Manifest>,
    pub(super) authorities: Vec<Arc<Authority>>,
}

impl Inner {
    /// The findings from memory or from the store where they suffice; else from a search for what is missing.
    pub(super) async fn find_out(
        &self,
        source: &impl SignatureSource,
        question: &SignatureQuestion,
        report: ReportKnown<'_>,
    ) -> ObservedFindings {
        let SignatureQuestion { name, reference, image, authorities } = question;
        let mut known = Vec::with_capacity(authorities.len());
        for authority in authorities {
            known.push(self.memo.known(&self.key(name, reference, image.digest, authority)).await);
        }
        match self.sufficient(authorities, &known) {
            Some(findings) => findings,
            None => {
                report(&known);
                self.search(source, question, known, report).await
            }
        }
    }

    /// Searches for the authorities about which not everything is known. A finding about another authority is neither
    /// verified again nor changed.
    async fn search(
        &self,
        source: &impl SignatureSource,
        question: &SignatureQuestion,
        mut known: Vec<Option<Arc<Observed<AuthorityFinding>>>>,
        report: ReportKnown<'_>,
    ) -> ObservedFindings {
        let SignatureQuestion { name, reference, image, authorities } = question;
        let (now, same) = (self.clock.now(), SameSigner::among(authorities));
        let mut others = Vec::new();
        // By the repository that holds the signatures; `None` is the image's own.
        let mut places: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for (index, (authority, known)) in authorities.iter().zip(&known).enumerate() {
            match known.as_ref().map(|known| known.signers(authority, now)) {
                Some(signers) if signers.signed == signers.possible => others.push(signers),
                _ => {
                    let place = authority.signature_repository().map(ToString::to_string);
                    places.entry(place).or_default().push(index);
                }
            }
        }
        while let Some((_, open)) = places.pop_first() {
            let sought = |index: &usize| {
                let known = known[*index].as_ref().map(|known| known.lasting_signatories()).unwrap_or_default();
                Sought { authority: authorities[*index].clone(), known }
            };
            let waiting = places.values().flatten().map(|index| authorities[*index].signers());
            let waiting = waiting.map(|possible| Signers { possible, ..Signers::default() });
            let request = GatherRequest {
                name: name.clone(),
                reference: reference.clone(),
                image: image.clone(),
                place: name.clone(),
                sought: open.iter().map(sought).collect(),
                others: others.iter().cloned().chain(waiting).collect(),
                same: same.clone(),
                ahead: None,
                now,
            };
            let so_far = Mutex::new(known.clone());
            let report = |place: usize, result: &AuthorityResult| {
                let gathered = GatheredResult { result: result.clone(), is_complete: false };
                let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                so_far[open[place]] = Some(Arc::new(self.finding(gathered, known[open[place]].as_deref())));
                report(&so_far);
            };
            let results = self.gather(source, request, &report).await;
            for (index, gathered) in open.into_iter().zip(results) {
                let found = self.finding(gathered, known[index].as_deref());
                let key = self.key(name, reference, image.digest, &authorities[index]);
                let found = self.memo.remember(key, found, AuthorityFinding::is_durable).await;
                others.push(found.signers(&authorities[index], now));
                known[index] = Some(found);
            }
        }
        known.into_iter().map(|known| known.unwrap_or_else(|| self.interrupted())).collect()
    }

    /// Gathers for authorities whose signatures are in the same repository.
    async fn gather(
        &self,
        source: &impl SignatureSource,
        mut request: GatherRequest,
        report: ReportResult<'_>,
    ) -> Vec<GatheredResult> {
        let place = request.sought.first().and_then(|sought| sought.authority.signature_repository()).cloned();
        request.place = place.unwrap_or(request.place);
        request.ahead = self.ahead.take(&request.place, request.image.digest);
        let host = &request.place.host;
        if *host == request.name.host {
            return gather(source, &self.tasks, &self.schemes, request, &self.config, report).await;
        }
        let Some(upstream) = (self.upstreams)(host) else {
            let why = format!("its signatures are in {host}, which is not a configured upstream");
            let unknown = |_: &Sought| GatheredResult {
                result: AuthorityResult { outcome: TrustOutcome::unknown(why.clone(), false), until: None },
                is_complete: true,
            };
            return request.sought.iter().map(unknown).collect();
        };
        gather(&*upstream, &self.tasks, &self.schemes, request, &self.config, report).await
    }

    /// What is kept for one authority. Earlier verified evidence that is still valid is not lost because a registry
    /// does not answer now.
    pub(super) fn finding(
        &self,
        gathered: GatheredResult,
        before: Option<&Observed<AuthorityFinding>>,
    ) -> Observed<AuthorityFinding> {
        let at = self.clock.now();
        let after = |ttl| at.saturating_add(ttl).unwrap_or(Timestamp::MAX);
        let GatheredResult { result: AuthorityResult { outcome, until }, is_complete } = gathered;
        let outcome = with_earlier_signatures(outcome, before.map(|before| &before.value.outcome));
        if let (TrustOutcome::Unknown { why, temporary, found }, Some(before)) = (&outcome, before)
            && let TrustOutcome::Verified { by, .. } = &before.value.outcome
        {
            // Who else has signed is as unknown as the search left it.
            let unseen = Some(Unseen { why: why.clone(), temporary: *temporary });
            let outcome = TrustOutcome::Verified { by: by.clone(), found: found.clone(), unseen };
            return Observed { value: AuthorityFinding { outcome, searched_until: after(TROUBLE_TTL) }, ..*before };
        }
        let latest = match &outcome {
            TrustOutcome::Unknown { temporary: true, .. } => Some(after(TROUBLE_TTL)),
            TrustOutcome::Unknown { .. } | TrustOutcome::Unverified { .. } => Some(after(self.config.negative_ttl)),
            TrustOutcome::Verified { .. } | TrustOutcome::NotRequired { .. } => None,
        };
        let until = until.into_iter().chain(latest).min();
        let searched_until = match &outcome {
            _ if !is_complete => at,
            TrustOutcome::Verified { unseen: Some(unseen), .. } if unseen.temporary => after(TROUBLE_TTL),
            _ => after(self.config.negative_ttl),
        };
        Observed { value: AuthorityFinding { outcome, searched_until }, at, until }
    }
}
