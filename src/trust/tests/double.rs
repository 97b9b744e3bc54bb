//! A registry in memory.

use super::*;

/// What the referrers API does.
pub(super) enum Api {
    Absent,
    Pages(Vec<Vec<Value>>),
    Endless,
    /// One page, which names another one that does not exist.
    CutShort,
    Circular,
    Fails(bool),
    Answers(&'static str),
}

/// A registry in memory, with one repository.
pub(super) struct Registry {
    pub(super) repository: Repository,
    /// Whose referrers may be asked for.
    pub(super) subject: Digest,
    pub(super) manifests: HashMap<String, Bytes>,
    pub(super) blobs: HashMap<Digest, Bytes>,
    /// What extensions of the registry and auxiliary services have, by path or URL.
    pub(super) documents: HashMap<String, Bytes>,
    pub(super) api: Api,
    /// References and digests on which the registry fails.
    pub(super) failing: Vec<String>,
    /// How many bytes come before each failure.
    pub(super) received: usize,
    pub(super) asked: Mutex<Vec<String>>,
}

impl Registry {
    pub(super) fn new(api: Api) -> Self {
        let (manifests, blobs, documents, failing, received, asked) = Default::default();
        let (repository, subject) = ("team/app".parse().unwrap(), image().digest);
        Self { repository, subject, manifests, blobs, documents, api, failing, received, asked }
    }

    pub(super) fn push_blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest, bytes.into());
        descriptor
    }

    pub(super) fn classic_manifest(
        &mut self,
        signatures: Vec<(Vec<u8>, Option<String>)>,
        subject: Option<&Digest>,
    ) -> Value {
        let mut layers = Vec::new();
        for (payload, signature) in signatures {
            let mut layer = self.push_blob(SIMPLE_SIGNING, payload);
            if let Some(signature) = signature {
                layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
            }
            layers.push(layer);
        }
        manifest_json(&layers.into(), subject)
    }

    pub(super) fn with_classic(mut self, digest: &Digest, signatures: Vec<(Vec<u8>, Option<String>)>) -> Self {
        let manifest = self.classic_manifest(signatures, None);
        self.manifests.insert(format!("sha256-{}.sig", digest.hex()), manifest.to_string().into());
        self
    }

    /// Stores a manifest; gives its descriptor, as clients that know no artifact types write it.
    pub(super) fn push(&mut self, manifest: &Value) -> Value {
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": bytes.len(),
            "artifactType": media_type::OCI_EMPTY
        });
        self.manifests.insert(digest.to_string(), bytes);
        descriptor
    }

    pub(super) fn bundle(&mut self, subject: &Digest, bundle: &Value) -> Value {
        let layer = self.push_blob(BUNDLE_V03, bundle.to_string().into());
        self.push(&manifest_json(&json!([layer]), Some(subject)))
    }

    /// One bundle, listed by the API.
    pub(super) fn with_bundle(bundle: &Value) -> Self {
        Self::with_bundle_of(&image().digest, bundle)
    }

    pub(super) fn with_bundle_of(subject: &Digest, bundle: &Value) -> Self {
        let mut registry = Self::new(Api::Absent);
        let descriptor = registry.bundle(subject, bundle);
        registry.api = Api::Pages(vec![vec![descriptor]]);
        registry
    }

    pub(super) fn fails(&self, what: &str) -> Result<(), SourceError> {
        self.asked.lock().unwrap().push(what.to_owned());
        match self.failing.iter().any(|failing| failing == what) {
            true => Err(SourceError { received: self.received, ..SourceError::new("500 Internal Server Error", true) }),
            false => Ok(()),
        }
    }

    pub(super) async fn judge(&self, authorities: &[Arc<Authority>]) -> Vec<TrustOutcome> {
        let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
        let outcomes = verify(self, &schemes().await, &Tasks::new(), &name, &image(), authorities).await;
        assert!(outcomes.iter().map(|(id, _)| id).eq(authorities.iter().map(|a| a.id())));
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    pub(super) async fn judge_by(&self, signer: &Signer) -> TrustOutcome {
        self.judge(&[signer.authority()]).await.remove(0)
    }
}

impl RegistryServices for Registry {
    fn document<'a>(
        &'a self,
        _: &'a Repository,
        address: ServiceAddress<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        let path = match address {
            ServiceAddress::Registry(path) => path,
            ServiceAddress::Beside { url, .. } => url.as_str(),
        };
        Box::pin(async move {
            self.fails(path)?;
            let found = self.documents.get(path).filter(|found| found.len() <= limit);
            Ok(found.map(|bytes| ServiceAnswer { headers: http::HeaderMap::new(), bytes: bytes.clone() }))
        })
    }
}

impl SignatureSource for Registry {
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<UnparsedManifest>, SourceError> {
        self.fails(&reference.to_string())?;
        let found = self.manifests.get(&reference.to_string()).filter(|_| *repository == self.repository);
        Ok(found.map(|bytes| UnparsedManifest { bytes: bytes.clone(), content_type: None }))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Option<Bytes>, SourceError> {
        self.fails(&digest.to_string())?;
        let found = self.blobs.get(digest).filter(|_| *repository == self.repository);
        match found {
            Some(blob) if blob.len() > limit => {
                Err(SourceError { received: limit, ..SourceError::new("more bytes than are read", false) })
            }
            found => Ok(found.cloned()),
        }
    }

    async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        page: &Page,
    ) -> Result<Option<(Bytes, Option<Page>)>, SourceError> {
        assert_eq!(*digest, self.subject);
        let at = page.last.as_ref().map_or(0, |last| last.parse::<usize>().unwrap());
        let next = |to: usize| Some(Page { last: Some(to.to_string()), ..Page::default() });
        match &self.api {
            _ if *repository != self.repository => Ok(None),
            Api::Absent => Ok(None),
            Api::Pages(pages) => Ok(Some((index_json(&pages[at]), next(at + 1).filter(|_| at + 1 < pages.len())))),
            Api::CutShort => Ok((at == 0).then(|| (index_json(&[]), next(1)))),
            Api::Endless => Ok(Some((index_json(&[]), next(at + 1)))),
            Api::Circular => Ok(Some((index_json(&[]), Some(Page::default())))),
            Api::Fails(temporary) => Err(SourceError::new("403 Forbidden", *temporary)),
            Api::Answers(body) => Ok(Some((Bytes::from_static(body.as_bytes()), None))),
        }
    }
}
