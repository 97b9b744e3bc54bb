//! The calls about exemptions.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::{ApiRequest, ApiResponse};
use crate::api::{ExemptionAnswer, ExemptionRequest, add_exemption, list_exemptions, parameter, path};
use crate::gate::{ExemptionBook, ExemptionError};

/// Answers a call whose path begins with [`path::EXEMPTIONS`].
pub(super) async fn answer(book: &Arc<ExemptionBook>, request: &ApiRequest) -> ApiResponse {
    let id = request.path.strip_prefix(path::EXEMPTIONS).and_then(|rest| rest.strip_prefix('/'));
    let caller = request.caller.to_string();
    match (&request.method, id) {
        (&Method::GET, None) => list(book, request.query.as_deref().unwrap_or_default()),
        (&Method::POST, None) => match serde_json::from_slice::<ExemptionRequest>(&request.body) {
            Ok(new) => respond(add_exemption(book, &new, &caller).await),
            Err(error) => ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        },
        (&Method::DELETE, Some(id)) => respond(book.remove(id, &caller).await.map(|record| (&*record).into())),
        (_, None) => ApiResponse::not_allowed(request.family, "GET, HEAD, POST"),
        (_, Some(_)) => ApiResponse::not_allowed(request.family, "DELETE"),
    }
}

fn list(book: &ExemptionBook, query: &str) -> ApiResponse {
    match parameter(query, "scope").map(|scope| scope.parse().map_err(|invalid| (scope, invalid))) {
        None => ApiResponse::new(StatusCode::OK, &list_exemptions(book, None)),
        Some(Ok(scope)) => ApiResponse::new(StatusCode::OK, &list_exemptions(book, Some(&scope))),
        Some(Err((scope, invalid))) => {
            let invalid: crate::policy::InvalidExemptionScope = invalid;
            ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &format!("scope {scope:?}: {invalid}"))
        }
    }
}

fn respond(outcome: Result<ExemptionAnswer, ExemptionError>) -> ApiResponse {
    let error = match outcome {
        Ok(answer) => return ApiResponse::new(StatusCode::OK, &answer),
        Err(error) => error,
    };
    let status = match &error {
        ExemptionError::Ended { .. } | ExemptionError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ExemptionError::InDocument { .. } | ExemptionError::TooMany => StatusCode::CONFLICT,
        ExemptionError::Audit | ExemptionError::Stopping | ExemptionError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        ExemptionError::Unknown { .. } => StatusCode::NOT_FOUND,
    };
    ApiResponse::error(status, &error.to_string())
}
