//! The calls about what is in the cache.

use http::{Method, StatusCode};

use super::{ApiRequest, ApiResponse};
use crate::api::{self, ContentListRequest, RemovalRequest};
use crate::cache::{Cache, NotRemoved};
use crate::gate::{Operations, RemovalFailure};

/// Answers a call to [`CACHE_CONTENTS`](crate::api::path::CACHE_CONTENTS).
pub(super) async fn answer(operations: &Operations, cache: &Cache, request: &ApiRequest) -> ApiResponse {
    let query = request.query.as_deref().unwrap_or_default();
    match request.method {
        Method::GET => match ContentListRequest::from_query(query) {
            Ok(wanted) => match api::contents(cache, &wanted).await {
                Ok(contents) => ApiResponse::new(StatusCode::OK, &contents),
                Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            },
            Err(error) => ApiResponse::error(StatusCode::BAD_REQUEST, &error),
        },
        Method::DELETE => match RemovalRequest::from_query(query) {
            Some(wanted) => match api::remove_content(operations, &wanted, &request.caller.to_string()).await {
                Ok(removed) => ApiResponse::new(StatusCode::OK, &removed),
                Err(failure) => refusal(&failure),
            },
            None => ApiResponse::error(StatusCode::BAD_REQUEST, "name is missing"),
        },
        _ => ApiResponse::not_allowed(request.family, "GET, HEAD, DELETE"),
    }
}

fn refusal(failure: &RemovalFailure) -> ApiResponse {
    let status = match failure {
        RemovalFailure::Audit(_) | RemovalFailure::NotRemoved { why: NotRemoved::Cache(_), .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        RemovalFailure::Gate(error) if error.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
        RemovalFailure::Gate(_) => StatusCode::UNPROCESSABLE_ENTITY,
        RemovalFailure::NotRemoved { why: NotRemoved::Absent, .. } => StatusCode::NOT_FOUND,
        RemovalFailure::NotRemoved { .. } => StatusCode::CONFLICT,
    };
    ApiResponse::error(status, &failure.to_string())
}
