//! IBM's service as a source, whose answers are kept while they are valid.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::IbmClient;
use crate::policy::{Observed, VaEvidence};
use crate::runtime::Clock;
use crate::store::{Evidence, Memo};
use crate::va::{SourceAnswer, VaSource, VaSubject};

/// Answers of IBM's service. Concurrent requests for the same answer share one query.
pub(in crate::va) struct IbmSource {
    client: IbmClient,
    answers: Arc<Memo<VaEvidence>>,
    clock: Clock,
}

impl IbmSource {
    pub(in crate::va) fn new(client: IbmClient, answers: Arc<Memo<VaEvidence>>, clock: Clock) -> Self {
        Self { client, answers, clock }
    }

    /// The account is part of the key, whether the policy or the configuration names it, because accounts have
    /// different exemptions.
    async fn ask(&self, subject: &VaSubject) -> SourceAnswer {
        let (image, manifest, account) = (subject.image(), subject.manifest().digest, &subject.account);
        if !self.client.serves(&image.host) {
            return SourceAnswer::Silent;
        }
        let account = self.client.account(account.as_deref()).map(str::to_owned);
        let key = format!("{image}@{manifest} {}", account.as_deref().unwrap_or_default());
        if !subject.may_ask {
            let known = self.answers.known(&key.into()).await;
            return SourceAnswer::Decides(known.unwrap_or_else(|| self.not_asked(subject)));
        }
        let (client, image) = (self.client.clone(), image.clone());
        let gather = || async move { client.fetch(&image, manifest, account.as_deref()).await };
        let answer = self.answers.obtain(key.into(), is_durable, gather).await;
        SourceAnswer::Decides(answer.unwrap_or_else(|| self.unavailable("the request was interrupted")))
    }

    /// Nothing is known, and nothing may be asked: an image that is judged again keeps its verdict, and in a list it
    /// has no result yet.
    fn not_asked(&self, subject: &VaSubject) -> Arc<Observed<VaEvidence>> {
        let why = "the service was not queried";
        let value = match subject.is_background {
            true => VaEvidence::Unavailable { why: why.into() },
            false => VaEvidence::Pending { why: why.into() },
        };
        self.observed(value)
    }

    fn unavailable(&self, why: &str) -> Arc<Observed<VaEvidence>> {
        self.observed(VaEvidence::Unavailable { why: why.into() })
    }

    fn observed(&self, value: VaEvidence) -> Arc<Observed<VaEvidence>> {
        Arc::new(Observed { value, at: self.clock.now(), until: None })
    }
}

impl Evidence for VaEvidence {
    /// Everything but a report means that the service has no result yet or could not answer.
    fn is_negative(&self) -> bool {
        !matches!(self, Self::Report(_))
    }
}

fn is_durable(evidence: &VaEvidence) -> bool {
    !evidence.is_unanswered()
}

impl VaSource for IbmSource {
    fn name(&self) -> &'static str {
        "ibm"
    }

    fn evidence<'a>(&'a self, subject: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        self.ask(subject).boxed()
    }
}
