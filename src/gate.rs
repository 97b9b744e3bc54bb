//! The pipeline: what a request asks for is selected, resolved, judged and, with a permit, opened.
//!
//! Read `Gate::answer` first; everything else here is a step of it. The gate holds no opinion of its own: rules come
//! from the rulebook, evidence from `trust` and `va`, the decision from `policy`.

mod blob;
mod error;
mod evidence;
mod explain;
mod judge;
mod kind;
mod layers;
mod listing;
mod metrics;
mod platforms;
mod record;
mod security_status;
mod target;
mod warm;

use std::sync::Arc;
use std::time::Duration;

pub use error::GateError;
pub use explain::{Assessment, AuthorityExplanation, Explanation, IssueExplanation, ListedImage, RuleExplanation};
pub use listing::{ListBody, Listing, TagWriter};
pub use record::{Entry, Who};
pub use target::Target;
pub use warm::{Prepared, Warm};

use crate::audit::Audit;
use crate::cache::{BlobReaders, Cache, Opened};
use crate::oci::{Endpoint, Manifest, Platform, Reference, Route};
use crate::policy::{self, ListingPermit, Permit, Subject};
use crate::resolve::{Resolved, Resolver};
use crate::rulebook::Rulebook;
use crate::runtime::{Clock, Metrics, Tasks};
use crate::scope::Scope;
use crate::store::Store;
use crate::trust::Trust;
use crate::upstream::Upstreams;
use crate::va::Va;
use judge::{Judged, Judgement};
use kind::Kinds;
use layers::Layers;
use metrics::GateMetrics;
use warm::WarmAnswers;

/// How the gate behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether denials of all documents are reported and not carried out.
    pub audit: bool,
    /// How long a request waits for evidence before it is told to come again.
    pub verdict_wait: Duration,
    /// The platforms whose images decide about an index; without any, this machine's.
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
    kinds: Kinds,
    layers: Layers,
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
        /// The page.
        list: Listing,
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

impl Answer {
    /// What admitted the content, where there is content.
    pub fn permit(&self) -> Option<&Permit> {
        match self {
            Self::Blob { permit, .. } | Self::BlobSize { permit, .. } | Self::Manifest { permit, .. } => Some(permit),
            Self::Base | Self::List { .. } => None,
        }
    }
}

impl Gate {
    /// Puts the parts together.
    pub fn new(config: Config, parts: Parts, metrics: &Metrics) -> Self {
        let Parts { upstreams, rulebook, resolver, trust, va, cache, store, audit, clock, tasks } = parts;
        let readers = BlobReaders::new(cache.clone(), tasks.clone());
        let layers = Layers::new(readers, &store, &clock, &tasks);
        let kinds = Kinds::new(layers.clone(), config.attachment_limit, &store, &clock, &tasks);
        let metrics = GateMetrics::new(metrics);
        let warm = WarmAnswers::new();
        Self { config, upstreams, rulebook, resolver, trust, va, cache, audit, kinds, layers, warm, clock, metrics }
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
        let counters = self.metrics.observe(&entry, &answer);
        if matches!(ask.route.endpoint, Endpoint::Base) {
            entry.discard();
        } else if !entry.finish(&answer).await {
            return Err(GateError::Unrecorded);
        }
        self.keep_warm(ask, &entry, &answer, counters, stamp);
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
            Endpoint::Manifest { reference, .. } => self.answer_manifest(&target, reference, entry).await,
            Endpoint::Blob { digest, .. } => Box::pin(self.answer_blob(ask, &target, *digest, entry)).await,
            Endpoint::Tags { name, page } => Box::pin(self.tags(&target, name, page)).await,
            Endpoint::Referrers { digest, page, .. } => Box::pin(self.referrers(&target, *digest, page)).await,
        }
    }

    async fn answer_manifest(
        &self,
        target: &Target,
        reference: &Reference,
        entry: &mut Entry,
    ) -> Result<Answer, GateError> {
        let judgement = self.in_time(target, reference, self.judge(target, reference)).await?;
        entry.judged(&judgement);
        let Admitted { manifest, permit, stale } = self.admitted(target, judgement).await?;
        self.resolver.note_pull(&target.name, &manifest);
        Ok(Answer::Manifest { manifest, permit, stale })
    }

    /// What takes longer than a request may wait goes on, and the client is told to come again.
    async fn in_time<T>(
        &self,
        target: &Target,
        reference: &Reference,
        work: impl Future<Output = Result<T, GateError>>,
    ) -> Result<T, GateError> {
        let late = |_| GateError::Pending { subject: target.describe(reference) };
        tokio::time::timeout(self.config.verdict_wait, work).await.map_err(late)?
    }

    /// The manifest that a judgement admits, or its denial.
    async fn admitted(&self, target: &Target, judgement: Judgement) -> Result<Admitted, GateError> {
        let permit = judgement.decision.map_err(GateError::Denied)?;
        let nothing = || GateError::Denied(policy::no_match_in(&target.name, "no rule selects it".into()));
        let Judged { manifest, stale, .. } = judgement.judged.ok_or_else(nothing)?;
        self.cache.touch(&manifest);
        // What it names is written down only now: a denied manifest leaves no rows.
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
}

/// A manifest with what admitted it.
#[derive(Debug)]
struct Admitted {
    manifest: Arc<Manifest>,
    permit: Permit,
    /// Why the tag's meaning may be out of date.
    stale: Option<String>,
}

/// Whether an absolute http(s) URL is on exactly this host.
fn is_on_host(url: &str, host: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| scheme == "https" || scheme == "http")
            && uri.authority().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host))
    })
}
