//! IBM's Vulnerability Advisor API below `/va/api/v3/` and `/va/api/v4/`, for IBM's clients and Portieris.
//!
//! Reports on an image judge it as a pull would, in the scope of clients without a namespace, and examine it if it was
//! never pulled. Reports on the account list what is known, in pages, and ask no registry.

mod exemptions;
mod route;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::timeout;

use self::route::IbmCall;
use super::{ApiRequest, ApiResponse, READING};
use crate::api::ibm::{
    self, IbmError, IbmErrors, IbmImageSummary, IbmReportList, IbmScanReport, IbmSummary, IbmSummaryList,
};
use crate::api::{self, AssessmentCounts, ImageListRequest, ImageScan, parameter};
use crate::gate::{GateError, ImageQuery, Inspector, KnownTag, KnownTags, Operations};
use crate::oci::ImageReference;
use crate::policy::VaStatus;
use crate::resolve::ResolveError;
use crate::scope::Scope;

/// How long a report waits for an image that is being examined. Portieris waits for ten seconds.
const SCAN_WAIT: Duration = Duration::from_secs(8);
/// The maximum number of complete reports in one page.
const MAX_REPORTS: usize = 100;
/// The maximum number of summaries in one page.
const MAX_SUMMARIES: usize = 5000;

/// IBM's API of a gate.
pub(super) struct IbmApi {
    inspector: Arc<Inspector>,
    operations: Arc<Operations>,
}

impl IbmApi {
    pub(super) fn new(inspector: Arc<Inspector>, operations: Arc<Operations>) -> Self {
        Self { inspector, operations }
    }

    pub(super) async fn answer(&self, request: &ApiRequest) -> ApiResponse {
        let call = match IbmCall::parse(&request.path) {
            Ok(call) => call,
            Err(problem) => return error(StatusCode::BAD_REQUEST, "bad_request", &problem),
        };
        let query = request.query.as_deref().unwrap_or_default();
        match (&request.method, call) {
            (&Method::GET, Some(IbmCall::AccountReport)) => self.account_report(query).await,
            (&Method::GET, Some(IbmCall::AccountStatus)) => self.account_status(query).await,
            (&Method::GET, Some(IbmCall::ImageReport(image))) => self.image_report(&image).await,
            (&Method::GET, Some(IbmCall::ImageStatus(image))) => self.image_status(&image).await,
            (_, Some(IbmCall::Exemptions(call))) => exemptions::answer(&self.operations, call, request).await,
            (_, Some(_)) => ApiResponse::not_allowed(request.family, READING),
            (_, None) => error(StatusCode::NOT_FOUND, "not_found", "no such call of the Vulnerability Advisor API"),
        }
    }

    /// The report; 404 if the image is unknown or has no report. An empty report would look like a clean image.
    async fn image_report(&self, image: &str) -> ApiResponse {
        match self.scanned(image).await {
            Err(response) => response,
            Ok(Some(scan)) if scan.assessment.status != VaStatus::Unscanned => {
                ApiResponse::new(StatusCode::OK, &IbmScanReport::new(&scan))
            }
            Ok(_) => error(StatusCode::NOT_FOUND, ibm::NOT_SCANNED, &ibm::not_scanned(image)),
        }
    }

    /// The status; `UNSCANNED` if the image has no report yet.
    async fn image_status(&self, image: &str) -> ApiResponse {
        match self.scanned(image).await {
            Err(response) => response,
            Ok(scan) => {
                let summary = scan.as_ref().map_or_else(IbmSummary::unscanned, IbmSummary::from);
                ApiResponse::new(StatusCode::OK, &summary)
            }
        }
    }

    /// Examines an image; of an index, the image with the worst result. `None` if that takes longer than a client
    /// waits; it continues meanwhile, so that a later call finds the result.
    ///
    /// # Errors
    /// The response, if the name is invalid, or the image is unknown or unavailable.
    async fn scanned(&self, image: &str) -> Result<Option<ImageScan>, ApiResponse> {
        let parsed: Result<ImageReference, _> = image.parse();
        let reference = parsed.map_err(|invalid| {
            error(StatusCode::BAD_REQUEST, "bad_request", &format!("{image:?} is not the name of an image: {invalid}"))
        })?;
        let scope = Scope::default();
        let Ok(scans) = timeout(SCAN_WAIT, api::scan_image(&self.inspector, &reference, &scope)).await else {
            return Ok(None);
        };
        let scans = match scans {
            Ok(scans) => scans,
            Err(GateError::Pending { .. }) => return Ok(None),
            Err(problem) => return Err(failure(&problem)),
        };
        let unknown = || error(StatusCode::NOT_FOUND, "not_found", &format!("{image} contains no image to report on"));
        scans.into_iter().max_by_key(|scan| AssessmentCounts::from(scan).badness()).map(Some).ok_or_else(unknown)
    }

    async fn account_report(&self, query: &str) -> ApiResponse {
        match self.known(query, MAX_REPORTS, true, report).await {
            Ok(known) => {
                let assessments = known.answers.into_iter().flatten().collect();
                let next = known.next.map(|last| last.to_string());
                ApiResponse::new(StatusCode::OK, &IbmReportList { assessments, next })
            }
            Err(response) => response,
        }
    }

    async fn account_status(&self, query: &str) -> ApiResponse {
        match self.known(query, MAX_SUMMARIES, false, summary).await {
            Ok(known) => {
                let (images, next) = (known.answers, known.next.map(|last| last.to_string()));
                ApiResponse::new(StatusCode::OK, &IbmSummaryList { images, next })
            }
            Err(response) => response,
        }
    }

    /// One page of known tags with what `answer` says about each. `repository`, `includePrivate` are IBM's parameters;
    /// `limit` and `after` select a page. The page ends where it takes too long.
    async fn known<T: Send + 'static>(
        &self,
        query: &str,
        most: usize,
        with_distribution: bool,
        answer: impl Fn(&KnownTag) -> T + Send + Sync + 'static,
    ) -> Result<KnownTags<T>, ApiResponse> {
        let invalid = |why: String| error(StatusCode::BAD_REQUEST, "bad_request", &why);
        let request = ImageListRequest::from_query(query).map_err(invalid)?;
        if parameter(query, "includePrivate").as_deref() == Some("false") {
            return Ok(KnownTags::default());
        }
        let request = ImageListRequest {
            restrict: parameter(query, "repository"),
            limit: Some(request.limit.unwrap_or(most).min(most)),
            ..request
        };
        let query = ImageQuery { with_distribution, ..ImageQuery::from(&request) };
        self.inspector.images(&query, answer).await.map_err(|problem| failure(&problem))
    }
}

/// The report on a known tag; of an index, that on its worst image. `None` if the image that the tag refers to is not
/// known.
fn report(tag: &KnownTag) -> Option<(String, IbmScanReport)> {
    let (worst, _) = AssessmentCounts::worst_of(&tag.assessments)?;
    Some((name(tag), IbmScanReport::known(&tag.name, worst)))
}

/// The summary of a known tag; of an index, that of its worst image.
fn summary(tag: &KnownTag) -> IbmImageSummary {
    let worst = AssessmentCounts::worst_of(&tag.assessments);
    let summary = worst.map(|(known, counts)| IbmSummary::new(&counts, Some(known.scanned_at())));
    IbmImageSummary::new(name(tag), tag.created.as_deref(), summary.unwrap_or_else(IbmSummary::unscanned))
}

/// Registry, repository and tag.
fn name(tag: &KnownTag) -> String {
    format!("{}:{}", tag.name, tag.tag)
}

/// The response for an image that is unavailable. IBM's clients retry after a 503 and not after a 404.
fn failure(problem: &GateError) -> ApiResponse {
    let (status, code) = match problem {
        GateError::Resolve(ResolveError::NotFound(_))
        | GateError::UnknownUpstream { .. }
        | GateError::NoUpstream { .. }
        | GateError::NotServed { .. } => (StatusCode::NOT_FOUND, "not_found"),
        problem if problem.is_temporary() => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable"),
        GateError::BlobUnknown { .. }
        | GateError::Cache(_)
        | GateError::Denied(_)
        | GateError::ForeignUrl { .. }
        | GateError::Name(_)
        | GateError::Pending { .. }
        | GateError::Resolve(_)
        | GateError::Store(_)
        | GateError::UnclearName { .. }
        | GateError::Unrecorded
        | GateError::Upstream(_) => (StatusCode::BAD_REQUEST, "bad_request"),
    };
    error(status, code, &problem.to_string())
}

/// An error in IBM's shape.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> ApiResponse {
    let errors = vec![IbmError { code: code.to_owned(), message: message.to_owned() }];
    ApiResponse::new(status, &IbmErrors { errors, status_code: status.as_u16() })
}
