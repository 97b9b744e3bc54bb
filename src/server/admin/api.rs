//! The admin API under `/api/v1/`, used by the command line. IBM's API is in `ibm.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::bundle::{TransferCall, Transfers};
use super::ibm::IbmApi;
use super::jobs::{Job, Jobs};
use super::{Api, ApiFamily, ApiRequest, ApiResponse, Body, Caller, READING};
use crate::api::{
    self, CheckRequest, ForgetRequest, ImageAnswer, ImageListRequest, ImportRequest, JobState, PlannedImage,
    PrefetchRequest, PrefetchedImage, Reloaded, VerdictsRequest, path,
};
use crate::cache::Cache;
use crate::gate::{BundleImport, ForgetError, GateError, GateServices, ImageQuery, Inspector, Livescan, Operations};
use crate::oci::{ImageReference, Platform};
use crate::prefetch::{Fetched, PlannedBundle, Prefetcher, Progress};
use crate::runtime::Tasks;
use crate::scope::Scope;

/// How often the progress of a running fetch is read.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

/// The beginning of the paths of all calls about bundles.
const BUNDLE: &str = "bundle/";

/// The API of a gate.
pub struct AdminApi {
    inspector: Arc<Inspector>,
    operations: Arc<Operations>,
    livescan: Arc<Livescan>,
    cache: Arc<Cache>,
    prefetcher: Arc<Prefetcher>,
    jobs: Jobs,
    transfers: Transfers,
    ibm: IbmApi,
    reload: Arc<dyn Fn() -> JoinHandle<Reloaded> + Send + Sync>,
}

impl AdminApi {
    /// Creates the API; `reload` starts to reload everything that SIGHUP reloads.
    pub fn new(
        services: &GateServices,
        cache: Arc<Cache>,
        prefetcher: Arc<Prefetcher>,
        tasks: Tasks,
        reload: impl Fn() -> JoinHandle<Reloaded> + Send + Sync + 'static,
    ) -> Self {
        let GateServices { gate, inspector, operations, livescan } = services.clone();
        let ibm = IbmApi::new(inspector.clone(), operations.clone());
        let transfers = Transfers::new(gate, operations.clone(), cache.clone());
        let (jobs, reload) = (Jobs::new(tasks), Arc::new(reload));
        Self { inspector, operations, livescan, cache, prefetcher, jobs, transfers, ibm, reload }
    }

    async fn answer(&self, request: ApiRequest) -> ApiResponse {
        match (&request.method, request.path.as_str()) {
            (&Method::GET, path::IMAGES) => self.images(&request).await,
            (&Method::GET, path::CHECK) => self.check(&request).await,
            (&Method::GET, path::VERDICTS) => self.verdicts(&request).await,
            (&Method::POST, path::SCAN) => self.scan(&request),
            (&Method::GET, path::CACHE) => respond(self.cache.status().await),
            (_, path::CACHE_CONTENTS) => super::contents::answer(&self.operations, &self.cache, &request).await,
            (&Method::GET, path::CACHE_GC) => respond(self.cache.forecast().await),
            (&Method::POST, path::CACHE_GC) => respond(self.cache.collect().await),
            (&Method::POST, path::CACHE_VERIFY) => self.verify(),
            (_, path::CACHE_PINS) => super::pins::answer(&self.operations, &request).await,
            (&Method::POST, path::PREFETCH) => self.prefetch(&request),
            (_, path) if path.starts_with(BUNDLE) => self.bundle(&request).await.unwrap_or_else(|refused| refused),
            (&Method::GET, path) if path.starts_with(path::JOBS) => self.job(path),
            (&Method::POST, path::RELOAD) => self.reload().await,
            (&Method::POST, path::TRUST_FORGET) => self.forget(&request).await,
            (_, path) if is_about_exemptions(path) => super::exemptions::answer(&self.operations, &request).await,
            _ => unsupported(&request),
        }
    }

    async fn bundle(&self, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
        Ok(match (&request.method, request.path.as_str()) {
            (&Method::POST, path::BUNDLE_PLAN) => self.plan_bundle(request),
            (&Method::POST, path::BUNDLE_IMPORT) => self.import(request),
            (&Method::POST, path::BUNDLE_HOLD) => self.transfers.begin(&body(request)?),
            (&Method::POST, path::BUNDLE_RELEASE) => self.transfers.end(&body(request)?),
            (&Method::POST, path::BUNDLE_MISSING) => self.transfers.missing(&body(request)?).await,
            (&Method::POST, path::BUNDLE_ADVISORIES) => {
                self.transfers.advisories(&body(request)?, request.caller).await
            }
            (&Method::POST, path::BUNDLE_REPORTS) => self.transfers.reports(&body(request)?, request.caller).await,
            _ => unsupported(request),
        })
    }

    async fn images(&self, request: &ApiRequest) -> ApiResponse {
        let list = match ImageListRequest::from_query(request.query.as_deref().unwrap_or_default()) {
            Ok(list) => list,
            Err(error) => return ApiResponse::error(StatusCode::BAD_REQUEST, &error),
        };
        let query = ImageQuery::from(&list);
        let without_va = query.without_va;
        let known = self.inspector.images(&query, move |tag| ImageAnswer::new(tag, without_va)).await;
        match known {
            Ok(known) => ApiResponse::new(StatusCode::OK, &known.answers),
            Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }

    async fn verdicts(&self, request: &ApiRequest) -> ApiResponse {
        let Some(wanted) = request.query.as_deref().and_then(VerdictsRequest::from_query) else {
            let message = "the query must be which=changed or which=would-deny, and since=SECONDS";
            return ApiResponse::error(StatusCode::BAD_REQUEST, message);
        };
        respond(api::verdicts(&self.livescan, &wanted).await)
    }

    async fn reload(&self) -> ApiResponse {
        match (self.reload)().await {
            Ok(reloaded) if reloaded.reloaded => ApiResponse::new(StatusCode::OK, &reloaded),
            Ok(refused) => ApiResponse::new(StatusCode::UNPROCESSABLE_ENTITY, &refused),
            Err(_) => ApiResponse::error(StatusCode::INTERNAL_SERVER_ERROR, "reloading failed; see the log"),
        }
    }

    async fn forget(&self, request: &ApiRequest) -> ApiResponse {
        let wanted: ForgetRequest = match body(request) {
            Ok(wanted) => wanted,
            Err(refused) => return refused,
        };
        match api::forget(&self.operations, &wanted, &request.caller.to_string()).await {
            Ok(forgotten) => ApiResponse::new(StatusCode::OK, &forgotten),
            Err(error @ ForgetError::Unknown(_)) => ApiResponse::error(StatusCode::NOT_FOUND, &error.to_string()),
            Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }

    fn job(&self, path: &str) -> ApiResponse {
        let id = path.strip_prefix(path::JOBS).and_then(|id| id.parse().ok());
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
        let (images, platforms, scope) = match wanted(&self.inspector, request) {
            Ok(wanted) => wanted,
            Err(refused) => return refused,
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

    fn plan_bundle(&self, request: &ApiRequest) -> ApiResponse {
        let (images, platforms, scope) = match wanted(&self.inspector, request) {
            Ok(wanted) => wanted,
            Err(refused) => return refused,
        };
        let prefetcher = self.prefetcher.clone();
        begun(self.jobs.start(|job| async move {
            let mut planned = Vec::new();
            for image in images {
                job.at(&image.to_string());
                let (bundled, names, reports, error) = match prefetcher.plan_bundle(&image, &platforms, &scope).await {
                    Ok(PlannedBundle { image, names, reports }) => (Some(image), names, reports, None),
                    Err(error) => (None, BTreeSet::new(), 0, Some(error)),
                };
                planned.push(PlannedImage { image: image.to_string(), bundled, names, reports, error });
            }
            value(&planned)
        }))
    }

    fn import(&self, request: &ApiRequest) -> ApiResponse {
        let wanted = serde_json::from_slice::<ImportRequest>(&request.body).map_err(|error| error.to_string());
        let wanted = wanted.and_then(|wanted| match wanted.namespace.parse() {
            Ok(scope) => Ok((BundleImport { dry_run: wanted.dry_run, force: wanted.force, scope }, wanted)),
            Err(error) => Err(format!("{:?}: {error}", wanted.namespace)),
        });
        let (how, ImportRequest { image, advisories, reports, hold, .. }) = match wanted {
            Ok(wanted) => wanted,
            Err(error) => return ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error),
        };
        let (operations, cache, caller) = (self.operations.clone(), self.cache.clone(), request.caller.to_string());
        begun(self.jobs.start(|job| async move {
            job.at(&image.reference().to_string());
            let manifests = image.manifests.iter().map(|manifest| manifest.digest);
            let _hold = cache.hold(hold, manifests).await.map_err(|error| error.to_string())?;
            operations.await_advisories(&advisories).await?;
            operations.await_reports(&reports).await?;
            value(&operations.import(&image, &how, &caller).await.map_err(|error| error.to_string())?)
        }))
    }

    fn scan(&self, request: &ApiRequest) -> ApiResponse {
        let scan: CheckRequest = match body(request) {
            Ok(scan) => scan,
            Err(refused) => return refused,
        };
        let inspector = self.inspector.clone();
        begun(self.jobs.start(|job| async move {
            job.at(&scan.image);
            value(&api::scan(&inspector, &scan).await?)
        }))
    }

    async fn check(&self, request: &ApiRequest) -> ApiResponse {
        let Some(check) = request.query.as_deref().and_then(CheckRequest::from_query) else {
            return ApiResponse::error(StatusCode::BAD_REQUEST, "image is missing");
        };
        // Anyone on this machine can name any namespace.
        if matches!(request.caller, Caller::Network(_))
            && let Ok(image) = self.inspector.image(&check.image)
            && let Err(error @ GateError::NotServed { .. }) = self.inspector.target_of(&image, &Scope::CLUSTER)
        {
            let how = "use the Unix socket, or the token of admin.token_file";
            return ApiResponse::error(StatusCode::FORBIDDEN, &format!("{error}; {how}"));
        }
        match api::check(&self.inspector, &check).await {
            Ok(answer) => ApiResponse::new(StatusCode::OK, &answer),
            Err(error) => ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error),
        }
    }
}

/// The response to a call that does not exist: its path supports other methods, or nothing has that path.
fn unsupported(request: &ApiRequest) -> ApiResponse {
    match methods(&request.path) {
        Some(methods) => ApiResponse::not_allowed(request.family, methods),
        None => ApiResponse::error(StatusCode::NOT_FOUND, "no such API call"),
    }
}

/// The methods of a path of the API; `None` if there is no such path. Calls about exemptions, pins and contents check
/// their methods themselves.
fn methods(path: &str) -> Option<&'static str> {
    match path {
        path::IMAGES | path::CHECK | path::VERDICTS | path::CACHE => Some(READING),
        path if path.starts_with(path::JOBS) => Some(READING),
        path::CACHE_GC => Some("GET, HEAD, POST"),
        path::SCAN
        | path::CACHE_VERIFY
        | path::PREFETCH
        | path::BUNDLE_ADVISORIES
        | path::BUNDLE_HOLD
        | path::BUNDLE_IMPORT
        | path::BUNDLE_MISSING
        | path::BUNDLE_PLAN
        | path::BUNDLE_RELEASE
        | path::BUNDLE_REPORTS
        | path::RELOAD
        | path::TRUST_FORGET => Some("POST"),
        _ => None,
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

/// The images, platforms and scope that a request names.
///
/// # Errors
/// The response, if the body cannot be read or a name is not valid.
fn wanted(
    inspector: &Inspector,
    request: &ApiRequest,
) -> Result<(Vec<ImageReference>, Vec<Platform>, Scope), ApiResponse> {
    let read = serde_json::from_slice(&request.body).map_err(|error| error.to_string());
    let read = read.and_then(|wanted| parse(inspector, &wanted));
    read.map_err(|error| ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error))
}

fn parse(
    inspector: &Inspector,
    request: &PrefetchRequest,
) -> Result<(Vec<ImageReference>, Vec<Platform>, Scope), String> {
    let wrong = |text: &str, error: &dyn std::fmt::Display| format!("{text:?}: {error}");
    let images = request.images.iter().map(|image| inspector.image(image).map_err(|error| wrong(image, &error)));
    let platforms = request.platforms.iter().map(|platform| platform.parse().map_err(|error| wrong(platform, &error)));
    let scope = request.namespace.parse().map_err(|error| wrong(&request.namespace, &error))?;
    Ok((images.collect::<Result<_, _>>()?, platforms.collect::<Result<_, _>>()?, scope))
}

/// The JSON body of a call.
///
/// # Errors
/// The response, if it cannot be read.
fn body<T: DeserializeOwned>(request: &ApiRequest) -> Result<T, ApiResponse> {
    serde_json::from_slice(&request.body)
        .map_err(|error| ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()))
}

fn respond<T: Serialize>(outcome: Result<T, impl std::fmt::Display>) -> ApiResponse {
    match outcome {
        Ok(value) => ApiResponse::new(StatusCode::OK, &value),
        Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn is_about_exemptions(path: &str) -> bool {
    path.strip_prefix(path::EXEMPTIONS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn begun(job: Option<JobState>) -> ApiResponse {
    match job {
        Some(state) => ApiResponse::new(StatusCode::ACCEPTED, &state),
        None => ApiResponse::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many jobs are running; retry when one has finished",
        ),
    }
}

fn value(result: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(result).map_err(|error| error.to_string())
}

impl Api for AdminApi {
    async fn call(&self, request: ApiRequest) -> ApiResponse {
        match request.family {
            ApiFamily::Native => self.answer(request).await,
            ApiFamily::Ibm => self.ibm.answer(&request).await,
        }
    }

    async fn transfer(&self, call: TransferCall) -> Response<Body> {
        self.transfers.answer(call).await
    }
}
