//! The calls about exemptions. They change the exemptions that `pullgate exemption` manages; those in documents are
//! listed and cannot be changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};

use super::error;
use super::route::{ExemptionCall, NamedIssue};
use crate::api::ibm::{IbmDeletion, IbmExemption, IbmExemptionType};
use crate::api::{ExemptionRequest, parameter};
use crate::gate::{ExemptionBook, ExemptionError, Operations};
use crate::policy::{ExemptionRecord, ExemptionScope, is_cve};
use crate::server::admin::{ApiRequest, ApiResponse};

/// The maximum number of images in one call.
const MAX_IMAGES: usize = 1000;
/// Who added an exemption by this API.
const AUTHOR: &str = "Vulnerability Advisor API";

pub(super) async fn answer(operations: &Operations, call: ExemptionCall, request: &ApiRequest) -> ApiResponse {
    let book = operations.exemptions();
    let caller = request.caller.to_string();
    if let Err(refused) = says_no_more(&call, request) {
        return refused;
    }
    let answered = match (&request.method, call) {
        (&Method::GET, ExemptionCall::Types) => ok(&IbmExemptionType::all()),
        (&Method::GET, ExemptionCall::All) => ok(&answers(&book.list(None), true)),
        (&Method::GET, ExemptionCall::Of(resource)) => of_scope(book, resource.as_deref()),
        (&Method::GET, ExemptionCall::OfImage(image)) => {
            let with_scope = parameter(request.query.as_deref().unwrap_or_default(), "includeScope");
            of_image(book, &image).and_then(|found| ok(&answers(&found, with_scope.as_deref() == Some("true"))))
        }
        (&Method::POST, ExemptionCall::OfImages) => of_images(book, &request.body),
        (&Method::POST, ExemptionCall::DeleteAll) => delete_all(book, &caller).await,
        (&Method::GET, ExemptionCall::One(issue)) => one(book, &issue),
        (&Method::POST, ExemptionCall::One(issue)) => add(operations, &issue, &caller).await,
        (&Method::DELETE, ExemptionCall::One(issue)) => delete(book, &issue, &caller).await,
        (_, call) => Err(ApiResponse::not_allowed(request.family, call.methods())),
    };
    answered.unwrap_or_else(|refused| refused)
}

/// The path determines the exemption completely. A caller who adds an end or a package would get a wider exemption than
/// requested.
fn says_no_more(call: &ExemptionCall, request: &ApiRequest) -> Result<(), ApiResponse> {
    let changes = matches!(call, ExemptionCall::One(_) | ExemptionCall::DeleteAll) && request.method != Method::GET;
    let is_empty = |text: &[u8]| matches!(text.trim_ascii(), b"" | b"{}" | b"null");
    if !changes || (is_empty(&request.body) && is_empty(request.query.as_deref().unwrap_or_default().as_bytes())) {
        return Ok(());
    }
    let why = "this call takes neither a body nor parameters: the path names the exemption, which has no end; \
               use `pullgate exemption add` for one with an end or for one package";
    Err(error(StatusCode::BAD_REQUEST, "bad_request", why))
}

fn ok(value: &impl serde::Serialize) -> Result<ApiResponse, ApiResponse> {
    Ok(ApiResponse::new(StatusCode::OK, value))
}

fn answers(records: &[Arc<ExemptionRecord>], with_scope: bool) -> Vec<IbmExemption> {
    let answer = |record: &Arc<ExemptionRecord>| {
        let answer = IbmExemption::from(&**record);
        IbmExemption { scope: answer.scope.filter(|_| with_scope), ..answer }
    };
    records.iter().map(answer).collect()
}

/// The exemptions of exactly this scope; `None` is the account.
fn of_scope(book: &ExemptionBook, resource: Option<&str>) -> Result<ApiResponse, ApiResponse> {
    let scope = scope(resource)?;
    let listed = book.list(Some(&scope));
    ok(&answers(&listed.into_iter().filter(|record| record.scope == scope).collect::<Vec<_>>(), true))
}

/// The exemptions that apply to an image, of all scopes.
fn of_image(book: &ExemptionBook, image: &str) -> Result<Vec<Arc<ExemptionRecord>>, ApiResponse> {
    Ok(book.list(Some(&scope(Some(image))?)))
}

fn of_images(book: &ExemptionBook, body: &[u8]) -> Result<ApiResponse, ApiResponse> {
    let invalid = |why: &str| error(StatusCode::BAD_REQUEST, "bad_request", why);
    let images: Vec<String> =
        serde_json::from_slice(body).map_err(|_| invalid("the body must be a list of names of images"))?;
    if images.len() > MAX_IMAGES {
        return Err(invalid(&format!("at most {MAX_IMAGES} images can be asked for at once")));
    }
    let found = images.into_iter().map(|image| {
        let exemptions = answers(&of_image(book, &image)?, true);
        Ok((image, exemptions))
    });
    ok(&found.collect::<Result<BTreeMap<String, Vec<IbmExemption>>, ApiResponse>>()?)
}

fn one(book: &ExemptionBook, issue: &NamedIssue) -> Result<ApiResponse, ApiResponse> {
    let wanted = record(issue)?;
    let listed = book.list(Some(&wanted.scope));
    match listed.iter().find(|record| record.id == wanted.id) {
        Some(record) => ok(&IbmExemption::from(&**record)),
        None => Err(unknown(&wanted)),
    }
}

fn unknown(wanted: &ExemptionRecord) -> ApiResponse {
    error(StatusCode::NOT_FOUND, "not_found", &format!("there is no exemption for {wanted}"))
}

async fn add(operations: &Operations, issue: &NamedIssue, caller: &str) -> Result<ApiResponse, ApiResponse> {
    let added = operations.add_exemptions(vec![record(issue)?], caller).await.map_err(|problem| failure(&problem))?;
    let answer = added.first().map(|record| IbmExemption::from(&**record));
    Ok(ApiResponse::new(StatusCode::CREATED, &answer))
}

async fn delete(book: &Arc<ExemptionBook>, issue: &NamedIssue, caller: &str) -> Result<ApiResponse, ApiResponse> {
    let named = record(issue)?;
    match book.remove(&named.id, caller).await {
        Ok(_) => Ok(ApiResponse { status: StatusCode::OK, json: bytes::Bytes::new(), allow: None }),
        Err(ExemptionError::Unknown { .. }) => Err(unknown(&named)),
        Err(problem) => Err(failure(&problem)),
    }
}

/// Removes all exemptions that are not in documents.
async fn delete_all(book: &Arc<ExemptionBook>, caller: &str) -> Result<ApiResponse, ApiResponse> {
    let removed = book.remove_all(caller).await.map_err(|problem| failure(&problem))?;
    ok(&IbmDeletion { number_of_exemptions_deleted: removed })
}

/// The exemption that a path names. Reports show a vulnerability without a notice as a notice with its own identifier:
/// to exempt that notice is to exempt the vulnerability.
fn record(issue: &NamedIssue) -> Result<ExemptionRecord, ApiResponse> {
    let is_package = issue.kind == "package";
    let kind = if issue.kind == "sn" && is_cve(&issue.id) { "cve" } else { &*issue.kind };
    let request = ExemptionRequest {
        scope: scope(issue.resource.as_deref())?.to_string(),
        issue_type: kind.to_owned(),
        issue_id: (!is_package).then(|| issue.id.clone()),
        package: is_package.then(|| issue.id.clone()),
        by: Some(AUTHOR.to_owned()),
        ..ExemptionRequest::default()
    };
    request.record().map_err(|why| error(StatusCode::BAD_REQUEST, "bad_request", &why))
}

/// The scope of a resource; `None` is the account.
fn scope(resource: Option<&str>) -> Result<ExemptionScope, ApiResponse> {
    let Some(resource) = resource else { return Ok(ExemptionScope::EVERYTHING) };
    resource.parse().map_err(|invalid: crate::policy::InvalidExemptionScope| {
        error(StatusCode::BAD_REQUEST, "bad_request", &format!("{resource:?}: {invalid}"))
    })
}

fn failure(problem: &ExemptionError) -> ApiResponse {
    let (status, code) = match problem {
        ExemptionError::Ended { .. } | ExemptionError::Invalid(_) => (StatusCode::BAD_REQUEST, "bad_request"),
        ExemptionError::InDocument { .. } | ExemptionError::TooMany => (StatusCode::CONFLICT, "conflict"),
        ExemptionError::Audit(_) | ExemptionError::Stopping | ExemptionError::Store(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable")
        }
        ExemptionError::Unknown { .. } => (StatusCode::NOT_FOUND, "not_found"),
    };
    error(status, code, &problem.to_string())
}
