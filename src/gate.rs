//! The pipeline: what a request asks for is selected, resolved, judged and, with a permit, opened.
//!
//! Read `Gate::answer` first; everything else here is a step of it. The gate holds no opinion of its own: rules come
//! from the rulebook, evidence from `trust` and `va`, the decision from `policy`.

mod blob;
mod error;
mod evidence;
mod explain;
mod kind;
mod metrics;
mod record;
mod target;
mod warm;

use std::sync::Arc;
use std::time::Duration;

pub use error::GateError;
pub use explain::{Assessment, AuthorityExplanation, Explanation, IssueExplanation, ListedImage, RuleExplanation};
pub use record::{Entry, Who};
pub use target::Target;
pub use warm::{Prepared, Warm};

use crate::audit::Audit;
use crate::cache::{Cache, Opened};
use crate::oci::{Endpoint, Manifest, Page, Platform, Reference, Route};
use crate::policy::{self, Decision, ListingPermit, Permit, Scope, Selected, Selection, Subject};
use crate::resolve::{Resolved, Resolver};
use crate::rulebook::Rulebook;
use crate::runtime::{Clock, Metrics, Tasks};
use crate::store::{Memo, Store};
use crate::trust::Trust;
use crate::upstream::{List, Upstreams};
use crate::va::Va;
use metrics::GateMetrics;
use warm::WarmAnswers;

/// How the gate behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether denials of all documents are said and not carried out.
    pub audit: bool,
    /// How long a request waits for evidence before it is told to come again.
    pub verdict_wait: Duration,
    /// The platforms whose images decide about an index that nobody has pulled from yet.
    pub platforms: Vec<Platform>,
    /// The largest layer of an attachment, in bytes.
    pub attachment_limit: u64,
    /// How long a tag counts as a name of a digest after it was last seen to mean it.
    pub tag_memory: Duration,
    /// Hosts that descriptors' `urls` may name.
    pub url_hosts: Vec<String>,
    /// How many unseen children of indexes are loaded to find the manifest that names a blob.
    pub max_unseen_children: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            audit: false,
            verdict_wait: Duration::from_secs(20),
            platforms: Vec::new(),
            attachment_limit: 8 * 1024 * 1024,
            tag_memory: Duration::from_secs(30 * 24 * 3600),
            url_hosts: Vec::new(),
            max_unseen_children: 16,
        }
    }
}

/// The gate. One for the process, shared by all requests.
pub struct Gate {
    config: Config,
    upstreams: Arc<Upstreams>,
    rulebook: Arc<Rulebook>,
    resolver: Resolver,
    trust: Trust,
    va: Va,
    cache: Arc<Cache>,
    audit: Audit,
    kinds: Memo<kind::Proof>,
    warm: WarmAnswers,
    clock: Clock,
    metrics: GateMetrics,
}

/// What the gate is made of.
pub struct Parts {
    /// The registries behind.
    pub upstreams: Arc<Upstreams>,
    /// The rules.
    pub rulebook: Arc<Rulebook>,
    /// Tags and manifests.
    pub resolver: Resolver,
    /// Signatures.
    pub trust: Trust,
    /// Vulnerabilities.
    pub va: Va,
    /// Content.
    pub cache: Arc<Cache>,
    /// Durable state.
    pub store: Store,
    /// Records.
    pub audit: Audit,
    /// The time.
    pub clock: Clock,
    /// Tracked tasks.
    pub tasks: Tasks,
}

/// A request, as far as the gate is concerned.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is asked for.
    pub route: Route,
    /// `GET` or `HEAD`.
    pub method: String,
    /// Whose rules apply.
    pub scope: Scope,
    /// Who asks.
    pub who: Who,
    /// All of the request that the answer depends on, as text, where it may be repeated for the same text.
    pub key: Option<String>,
}

/// What a request gets.
pub enum Answer {
    /// `/v2/`: a registry is here.
    Base,
    /// A blob, or a part of one.
    Blob {
        /// The content.
        content: Opened,
        /// What admitted it.
        permit: Permit,
    },
    /// A blob's size, for HEAD: nothing is downloaded for it.
    BlobSize {
        /// In bytes.
        size: u64,
        /// What admitted it.
        permit: Permit,
    },
    /// Tags or referrers.
    List {
        /// The upstream's page.
        list: List,
        /// What opened it.
        permit: ListingPermit,
    },
    /// A manifest.
    Manifest {
        /// The manifest.
        manifest: Arc<Manifest>,
        /// What admitted it.
        permit: Permit,
        /// Why the tag's meaning may be out of date.
        stale: Option<String>,
    },
}

impl Gate {
    /// Puts the parts together.
    pub fn new(config: Config, parts: Parts, metrics: &Metrics) -> Self {
        let Parts { upstreams, rulebook, resolver, trust, va, cache, store, audit, clock, tasks } = parts;
        let kinds = Memo::new("kind", store, clock.clone(), tasks);
        let metrics = GateMetrics::new(metrics);
        let warm = WarmAnswers::new();
        Self { config, upstreams, rulebook, resolver, trust, va, cache, audit, kinds, warm, clock, metrics }
    }

    /// The platforms that the configuration names.
    pub fn platforms(&self) -> Vec<Platform> {
        self.config.platforms.clone()
    }

    /// Answers a request, and records the decision whatever becomes of the client.
    ///
    /// # Errors
    /// Everything that is not served: denials, refusals, what cannot be judged, what the upstream does not have.
    pub async fn handle(&self, ask: &Ask) -> Result<Answer, GateError> {
        let stamp = self.stamp();
        let mut entry = Entry::new(ask, &self.audit, self.clock.now());
        let answer = self.answer(ask, &mut entry).await;
        self.metrics.observe(&entry, &answer);
        if matches!(ask.route.endpoint, Endpoint::Base) {
            entry.discard();
        } else if !entry.finish(&answer).await {
            return Err(GateError::Unrecorded);
        }
        self.keep_warm(ask, &entry, &answer, stamp);
        answer
    }

    async fn answer(&self, ask: &Ask, entry: &mut Entry) -> Result<Answer, GateError> {
        if matches!(ask.route.endpoint, Endpoint::Base) {
            return Ok(Answer::Base);
        }
        let target = self.target(ask)?;
        entry.about(&target, &ask.route.endpoint);
        match &ask.route.endpoint {
            Endpoint::Base => Ok(Answer::Base),
            Endpoint::Manifest { reference, .. } => {
                let admitted = self.admit_in_time(&target, reference, entry).await?;
                let Admitted { manifest, permit, stale } = admitted;
                Ok(Answer::Manifest { manifest, permit, stale })
            }
            Endpoint::Blob { digest, .. } => {
                let permit = Box::pin(self.admit_blob_in_time(&target, *digest, entry)).await?;
                Box::pin(self.blob(ask, &target, permit)).await
            }
            Endpoint::Tags { page, .. } => {
                let permit = self.admit_listing(&target).await?;
                let list = Box::pin(target.upstream.tags(&target.name.repository, page)).await?;
                Ok(Answer::List { list, permit })
            }
            Endpoint::Referrers { digest, page, .. } => {
                let permit = self.admit_listing(&target).await?;
                let list = Box::pin(self.referrers(&target, *digest, page)).await?;
                Ok(Answer::List { list, permit })
            }
        }
    }

    async fn admit_in_time(
        &self,
        target: &Target,
        reference: &Reference,
        entry: &mut Entry,
    ) -> Result<Admitted, GateError> {
        let wait = self.config.verdict_wait;
        let admitted = tokio::time::timeout(wait, self.admit(target, reference, entry)).await;
        let admitted = admitted.unwrap_or_else(|_| Err(GateError::Pending { subject: target.describe(reference) }))?;
        self.resolver.note_pull(&target.name, &admitted.manifest);
        self.cache.touch(&admitted.manifest);
        Ok(admitted)
    }

    /// select -> resolve -> evidence -> decide.
    async fn admit(&self, target: &Target, reference: &Reference, entry: &mut Entry) -> Result<Admitted, GateError> {
        let subject = self.subject(target, reference).await?;
        let selected = match self.rulebook.rules().select(&subject) {
            Selection::Entries(selected) => selected,
            Selection::Deny(message) if self.config.audit => {
                let Resolved { manifest, stale } = self.resolve(target, reference).await?;
                let permit = policy::admit_unmatched(&subject, manifest.digest, message);
                entry.admitted(&manifest, &permit);
                Box::pin(self.resolver.admitted(&target.name, &manifest)).await;
                return Ok(Admitted { manifest, permit, stale });
            }
            Selection::Deny(message) => return Err(GateError::Denied(policy::no_match(&subject, message))),
        };
        let Resolved { manifest, stale } = self.resolve(target, reference).await?;
        entry.resolved(&manifest);
        let permit = self.judge(target, &subject, &selected, &manifest, entry).await?;
        entry.admitted(&manifest, &permit);
        Box::pin(self.resolver.admitted(&target.name, &manifest)).await;
        Ok(Admitted { manifest, permit, stale })
    }

    async fn subject(&self, target: &Target, reference: &Reference) -> Result<Subject, GateError> {
        let mut subject = Subject::new(target.name.clone(), reference.clone(), target.scope.clone());
        if let Reference::Digest(digest) = reference {
            subject.known_tags = self.resolver.known_tags(&target.name, *digest).await?.to_vec();
        }
        Ok(subject)
    }

    async fn resolve(&self, target: &Target, reference: &Reference) -> Result<Resolved, GateError> {
        let resolved = self.resolver.resolve(&target.upstream, &target.name, reference).await?;
        let allowed = |url: &str| self.config.url_hosts.iter().any(|host| is_on_host(url, host));
        match resolved.manifest.foreign_url(allowed) {
            Some(url) => Err(GateError::ForeignUrl { subject: target.describe(reference), url: url.to_owned() }),
            None => Ok(resolved),
        }
    }

    /// One name may be spoken for by several entries (a digest with several tags); the image is admitted if the rule of
    /// one of them admits it, and denied with the reason of the first, which is the most specific.
    async fn judge(
        &self,
        target: &Target,
        subject: &Subject,
        selected: &[Selected],
        manifest: &Arc<Manifest>,
        entry: &mut Entry,
    ) -> Result<Permit, GateError> {
        let mut first = None;
        let kind = Box::pin(self.kind(target, selected, manifest)).await?;
        for selected in selected {
            let evidence = self.evidence(target, selected, kind, manifest).await?;
            entry.evidence(&evidence.trust, evidence.va.as_ref(), self.clock.now());
            let question = policy::Question {
                subject,
                digest: manifest.digest,
                kind,
                selected,
                trust: &evidence.trust,
                va: evidence.va.as_ref(),
                now: self.clock.now(),
            };
            match policy::decide(&question) {
                Decision::Admit(permit) => return Ok(permit),
                Decision::Deny(denial) => first = first.or(Some(denial)),
            }
        }
        let nothing = || policy::no_match(subject, "no rule selects it".into());
        Err(GateError::Denied(first.unwrap_or_else(nothing)))
    }

    /// Lists of a repository are open where any rule selects the repository: they hold names, not content, and people
    /// need them to see why an image is denied.
    async fn admit_listing(&self, target: &Target) -> Result<ListingPermit, GateError> {
        match self.rulebook.rules().select_repository(&target.name, &target.scope) {
            Selection::Entries(selected) => policy::admit_listing(&target.name, &selected)
                .ok_or_else(|| GateError::Denied(policy::no_match_in(&target.name, "no rule selects it".into()))),
            Selection::Deny(_) if self.config.audit => Ok(policy::admit_listing_unmatched(&target.name)),
            Selection::Deny(message) => Err(GateError::Denied(policy::no_match_in(&target.name, message))),
        }
    }

    /// Without the referrers API upstream, the answer is an empty index, and clients go on to the fallback tag.
    async fn referrers(&self, target: &Target, digest: crate::oci::Digest, page: &Page) -> Result<List, GateError> {
        Ok(target.upstream.referrers(&target.name.repository, &digest, page).await?)
    }
}

/// A manifest with what admitted it.
#[derive(Debug)]
pub struct Admitted {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// What admitted it.
    pub permit: Permit,
    /// Why the tag's meaning may be out of date.
    pub stale: Option<String>,
}

/// Whether an absolute http(s) URL is on exactly this host.
fn is_on_host(url: &str, host: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| scheme == "https" || scheme == "http")
            && uri.authority().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host))
    })
}
