//! The admin API under `/api/v1/`, used by the command line.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::jobs::{Job, JobState, Jobs};
use super::{Api, ApiRequest, ApiResponse};
use crate::cache::Cache;
use crate::gate::{Explanation, Gate, GateError};
use crate::oci::{ImageReference, Platform};
use crate::prefetch::{Fetched, Prefetcher, Progress};
use crate::runtime::Tasks;
use crate::scope::Scope;

/// How often the progress of a running fetch is read.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

/// The API of a gate.
pub struct AdminApi {
    gate: Arc<Gate>,
    cache: Arc<Cache>,
    prefetcher: Arc<Prefetcher>,
    jobs: Jobs,
    reload: Arc<dyn Fn() -> JoinHandle<()> + Send + Sync>,
}

/// The body of `POST prefetch`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrefetchRequest {
    /// The images, as users write them.
    pub images: Vec<String>,
    /// The platforms to fetch; if empty, those of the gate, or of its machine.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// The scope whose rules apply.
    #[serde(default)]
    pub namespace: String,
}

/// The result for one image.
#[derive(Debug, Deserialize, Serialize)]
pub struct PrefetchedImage {
    /// The image as requested.
    pub image: String,
    /// The number of blobs now in the cache.
    pub blobs: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Why the image was not cached.
    pub error: Option<String>,
}

impl AdminApi {
    /// Creates the API; `reload` starts to reload everything that SIGHUP reloads.
    pub fn new(
        gate: Arc<Gate>,
        cache: Arc<Cache>,
        prefetcher: Arc<Prefetcher>,
        tasks: Tasks,
        reload: impl Fn() -> JoinHandle<()> + Send + Sync + 'static,
    ) -> Self {
        Self { gate, cache, prefetcher, jobs: Jobs::new(tasks), reload: Arc::new(reload) }
    }

    async fn answer(&self, request: ApiRequest) -> ApiResponse {
        let path = request.path.as_str();
        match (&request.method, path) {
            (&Method::GET, "images") => respond(self.gate.images().await),
            (&Method::GET, "check") => self.check(&request).await,
            (&Method::GET, "cache") => respond(self.cache.status().await),
            (&Method::POST, "cache/gc") => respond(self.cache.collect().await),
            (&Method::POST, "cache/verify") => self.verify(),
            (&Method::POST, "prefetch") => self.prefetch(&request),
            (&Method::GET, path) if path.starts_with("jobs/") => self.job(path),
            (&Method::POST, "reload") => self.reload().await,
            (_, "images" | "check" | "cache" | "cache/gc" | "cache/verify" | "prefetch" | "reload") => {
                ApiResponse::error(StatusCode::METHOD_NOT_ALLOWED, "this path does not support the method")
            }
            _ => ApiResponse::error(StatusCode::NOT_FOUND, "no such API call"),
        }
    }

    async fn reload(&self) -> ApiResponse {
        match (self.reload)().await {
            Ok(()) => ApiResponse::new(StatusCode::OK, &json!({"reloaded": true})),
            Err(_) => ApiResponse::error(StatusCode::INTERNAL_SERVER_ERROR, "reloading failed; see the log"),
        }
    }

    fn job(&self, path: &str) -> ApiResponse {
        let id = path.strip_prefix("jobs/").and_then(|id| id.parse().ok());
        match id.and_then(|id| self.jobs.get(id)) {
            Some(state) => ApiResponse::new(StatusCode::OK, &state),
            None => ApiResponse::error(StatusCode::NOT_FOUND, "no such job; old jobs are removed"),
        }
    }

    fn verify(&self) -> ApiResponse {
        let cache = self.cache.clone();
        begun(self.jobs.start(|job| async move {
            let verified = cache.verify(|done, total| job.tell(done, total)).await;
            value(&verified.map_err(|error| error.to_string())?)
        }))
    }

    fn prefetch(&self, request: &ApiRequest) -> ApiResponse {
        let wanted = serde_json::from_slice(&request.body).map_err(|error| error.to_string()).and_then(|r| parse(&r));
        let (images, platforms, scope) = match wanted {
            Ok(wanted) => wanted,
            Err(error) => return ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error),
        };
        let prefetcher = self.prefetcher.clone();
        begun(self.jobs.start(|job| async move {
            let mut done = Vec::new();
            for image in images {
                let fetched = fetch(&prefetcher, &image, &platforms, &scope, &job).await;
                let Fetched { blobs, bytes, .. } = *fetched.as_ref().unwrap_or(&Fetched::default());
                done.push(PrefetchedImage { image: image.to_string(), blobs, bytes, error: fetched.err() });
            }
            value(&done)
        }))
    }

    async fn check(&self, request: &ApiRequest) -> ApiResponse {
        let query = request.query.as_deref().unwrap_or_default();
        let Some(image) = parameter(query, "image") else {
            return ApiResponse::error(StatusCode::BAD_REQUEST, "image is missing");
        };
        match check(&self.gate, &image, &parameter(query, "namespace").unwrap_or_default()).await {
            Ok(explanation) => ApiResponse::new(StatusCode::OK, &explanation),
            Err(error) => ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error),
        }
    }
}

/// Fetches one image, and reports the progress to the job.
async fn fetch(
    prefetcher: &Prefetcher,
    image: &ImageReference,
    platforms: &[Platform],
    scope: &Scope,
    job: &Job,
) -> Result<Fetched, String> {
    job.at(&image.to_string());
    let progress = Progress::default();
    let fetch = prefetcher.fetch(image, platforms, scope, &progress);
    tokio::pin!(fetch);
    loop {
        tokio::select! {
            fetched = &mut fetch => return fetched,
            () = tokio::time::sleep(LOOK) => job.tell(progress.done(), progress.total()),
        }
    }
}

fn parse(request: &PrefetchRequest) -> Result<(Vec<ImageReference>, Vec<Platform>, Scope), String> {
    let wrong = |text: &str, error: &dyn std::fmt::Display| format!("{text:?}: {error}");
    let images = request.images.iter().map(|image| image.parse().map_err(|error| wrong(image, &error)));
    let platforms = request.platforms.iter().map(|platform| platform.parse().map_err(|error| wrong(platform, &error)));
    let scope = request.namespace.parse().map_err(|error| wrong(&request.namespace, &error))?;
    Ok((images.collect::<Result<_, _>>()?, platforms.collect::<Result<_, _>>()?, scope))
}

fn respond<T: Serialize>(outcome: Result<T, impl std::fmt::Display>) -> ApiResponse {
    match outcome {
        Ok(value) => ApiResponse::new(StatusCode::OK, &value),
        Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn begun(job: Option<JobState>) -> ApiResponse {
    match job {
        Some(state) => ApiResponse::new(StatusCode::ACCEPTED, &state),
        None => {
            ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, "too many jobs are running; retry when one has ended")
        }
    }
}

fn value(result: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(result).map_err(|error| error.to_string())
}

/// Judges an image, named as users write it.
///
/// # Errors
/// The name is invalid, or the image cannot be judged.
pub async fn check(gate: &Gate, image: &str, namespace: &str) -> Result<Explanation, String> {
    let reference: ImageReference = image.parse().map_err(|error| format!("{image:?}: {error}"))?;
    let scope: Scope = namespace.parse().map_err(|error| format!("{namespace:?}: {error}"))?;
    let told = async {
        let target = gate.target_of(&reference, &scope)?;
        gate.explain(&target, &reference.reference()).await
    };
    told.await.map_err(|error: GateError| error.to_string())
}

impl Api for AdminApi {
    fn call(&self, request: ApiRequest) -> impl Future<Output = ApiResponse> + Send {
        self.answer(request)
    }
}

/// A decoded parameter of a raw query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.replace('+', " "))?;
    percent_encoding::percent_decode_str(&value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
