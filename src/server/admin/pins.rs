//! The calls about pins.

use http::{Method, StatusCode};

use super::{ApiRequest, ApiResponse};
use crate::api::{self, PinRequest, parameter};
use crate::gate::{Operations, PinFailure};

/// Answers a call to [`CACHE_PINS`](crate::api::path::CACHE_PINS).
pub(super) async fn answer(operations: &Operations, request: &ApiRequest) -> ApiResponse {
    let caller = request.caller.to_string();
    match request.method {
        Method::GET => match api::pins(operations).await {
            Ok(pins) => ApiResponse::new(StatusCode::OK, &pins),
            Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        },
        Method::POST => match serde_json::from_slice::<PinRequest>(&request.body) {
            Ok(new) => match api::pin(operations, &new, &caller).await {
                Ok(pin) => ApiResponse::new(StatusCode::OK, &pin),
                Err(failure) => refusal(&failure),
            },
            Err(error) => ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        },
        Method::DELETE => match parameter(request.query.as_deref().unwrap_or_default(), "image") {
            Some(image) => match api::unpin(operations, &image, &caller).await {
                Ok(()) => ApiResponse::new(StatusCode::OK, &serde_json::json!({})),
                Err(failure) => refusal(&failure),
            },
            None => ApiResponse::error(StatusCode::BAD_REQUEST, "image is missing"),
        },
        _ => ApiResponse::not_allowed(request.family, "GET, HEAD, POST, DELETE"),
    }
}

fn refusal(failure: &PinFailure) -> ApiResponse {
    let status = match failure {
        PinFailure::Audit(_) => StatusCode::SERVICE_UNAVAILABLE,
        PinFailure::Gate(error) if error.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
        PinFailure::Gate(_) => StatusCode::UNPROCESSABLE_ENTITY,
        PinFailure::NotPinned { .. } => StatusCode::CONFLICT,
        PinFailure::Unknown(_) | PinFailure::UnknownTag(_) => StatusCode::NOT_FOUND,
    };
    ApiResponse::error(status, &failure.to_string())
}
