//! The calls about exemptions.

use http::{Method, StatusCode};

use super::{ApiRequest, ApiResponse};
use crate::api::{ExemptionAnswer, ExemptionRequest, add_exemption, list_exemptions, parameter, path};
use crate::gate::{ExemptionError, Operations};
use crate::policy::{ExemptionScope, InvalidExemptionScope};

/// Answers a call whose path begins with [`path::EXEMPTIONS`].
pub(super) async fn answer(operations: &Operations, request: &ApiRequest) -> ApiResponse {
    let id = request.path.strip_prefix(path::EXEMPTIONS).and_then(|rest| rest.strip_prefix('/'));
    let caller = request.caller.to_string();
    match (&request.method, id) {
        (&Method::GET, None) => list(operations, request.query.as_deref().unwrap_or_default()),
        (&Method::POST, None) => match serde_json::from_slice::<ExemptionRequest>(&request.body) {
            Ok(new) => respond(add_exemption(operations, &new, &caller).await),
            Err(error) => ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        },
        (&Method::DELETE, Some(id)) => {
            respond(operations.exemptions().remove(id, &caller).await.map(|record| (&*record).into()))
        }
        (_, None) => ApiResponse::not_allowed(request.family, "GET, HEAD, POST"),
        (_, Some(_)) => ApiResponse::not_allowed(request.family, "DELETE"),
    }
}

fn list(operations: &Operations, query: &str) -> ApiResponse {
    let scope = parameter(query, "scope").map(|text| {
        let invalid = |invalid: InvalidExemptionScope| ExemptionError::Invalid(format!("scope {text:?}: {invalid}"));
        let scope: ExemptionScope = text.parse().map_err(invalid)?;
        operations.check_scope(&scope).map(|()| scope)
    });
    match scope.transpose() {
        Ok(scope) => ApiResponse::new(StatusCode::OK, &list_exemptions(operations.exemptions(), scope.as_ref())),
        Err(error) => refusal(&error),
    }
}

fn respond(outcome: Result<ExemptionAnswer, ExemptionError>) -> ApiResponse {
    match outcome {
        Ok(answer) => ApiResponse::new(StatusCode::OK, &answer),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &ExemptionError) -> ApiResponse {
    let status = match error {
        ExemptionError::Ended { .. } | ExemptionError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ExemptionError::InDocument { .. } | ExemptionError::TooMany => StatusCode::CONFLICT,
        ExemptionError::Audit(_) | ExemptionError::Stopping | ExemptionError::Store(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ExemptionError::Unknown { .. } => StatusCode::NOT_FOUND,
    };
    ApiResponse::error(status, &error.to_string())
}
