//! Questions to authorities whose evidence is not attached to the image, all at once.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::gather::{GatherRequest, GatheredResult};
use super::scheme::{AuthorityResult, Consultation, Sought};
use super::schemes::Schemes;
use super::settled::Signers;
use super::source::RegistryServices;
use crate::policy::TrustOutcome;

/// Receives results before the round ends: the index of the authority, and what is known for it by now.
pub(super) type ReportResult<'a> = &'a (dyn Fn(usize, &AuthorityResult) + Send + Sync);

/// The consultations of one round.
pub(super) struct Consultations<'a> {
    report: ReportResult<'a>,
    pending: FuturesUnordered<BoxFuture<'a, (usize, AuthorityResult)>>,
    /// What is known, by the index of the authority; `None` for authorities that are not consulted.
    answers: Vec<Option<ConsultationAnswer>>,
}

enum ConsultationAnswer {
    /// Everyone who may sign for the authority.
    Pending(BTreeSet<String>),
    Known(AuthorityResult),
}

impl<'a> Consultations<'a> {
    /// Asks all of these authorities that can be consulted, until `end` at the latest.
    pub(super) fn begin(
        services: &'a dyn RegistryServices,
        schemes: &'a Schemes,
        request: &'a GatherRequest,
        end: Instant,
        report: ReportResult<'a>,
    ) -> Self {
        let pending = FuturesUnordered::new();
        let mut answers = Vec::with_capacity(request.sought.len());
        for (index, Sought { authority, .. }) in request.sought.iter().enumerate() {
            let GatherRequest { name, reference, image, .. } = request;
            let question = Consultation { authority, name, reference, image, services };
            let asked = schemes.of(authority.scheme()).consult(question);
            answers.push(asked.map(|answer| {
                let late = |_| late();
                let answer = async move { (index, timeout_at(end, answer).await.unwrap_or_else(late)) };
                pending.push(Box::pin(answer) as BoxFuture<'a, _>);
                ConsultationAnswer::Pending(authority.signers())
            }));
        }
        Self { report, pending, answers }
    }

    /// The authorities that are not consulted, with their indices.
    pub(super) fn others(&self, sought: &[Sought]) -> (Vec<usize>, Vec<Sought>) {
        let others = sought.iter().enumerate().filter(|(index, _)| self.answers[*index].is_none());
        others.map(|(index, sought)| (index, sought.clone())).unzip()
    }

    /// Waits for the next answer. False if there is none to wait for.
    pub(super) async fn next(&mut self) -> bool {
        let Some((index, result)) = self.pending.next().await else { return false };
        (self.report)(index, &result);
        self.answers[index] = Some(ConsultationAnswer::Known(result));
        true
    }

    /// Waits for all answers.
    pub(super) async fn finish(&mut self) {
        while self.next().await {}
    }

    /// What is known about the signers of each authority that is consulted.
    pub(super) fn signers(&self) -> Vec<Signers> {
        self.answers.iter().flatten().map(ConsultationAnswer::signers).collect()
    }

    /// The results, by the index of the authority; `None` for authorities that are not consulted.
    pub(super) fn into_results(self) -> Vec<Option<GatheredResult>> {
        let known = |answer| match answer {
            Some(ConsultationAnswer::Known(result)) => Some(GatheredResult { result, is_complete: true }),
            Some(ConsultationAnswer::Pending(_)) | None => None,
        };
        self.answers.into_iter().map(known).collect()
    }
}

impl ConsultationAnswer {
    fn signers(&self) -> Signers {
        match self {
            Self::Pending(possible) => Signers { possible: possible.clone(), ..Signers::default() },
            Self::Known(AuthorityResult { outcome: TrustOutcome::Verified { by, .. }, .. }) => {
                let signed: BTreeSet<String> = by.iter().map(|signatory| signatory.id.clone()).collect();
                Signers { possible: signed.clone(), signed }
            }
            Self::Known(_) => Signers::default(),
        }
    }
}

fn late() -> AuthorityResult {
    let why = "the place of the signatures did not answer in time";
    AuthorityResult { outcome: TrustOutcome::unknown(why, true), until: None }
}
