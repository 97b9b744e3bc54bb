//! `/api/v1/…` of the admin side: what the command line asks a running gate.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;

use super::admin::{Api, ApiRequest, ApiResponse};
use crate::gate::{Explanation, Gate, GateError};
use crate::oci::ImageReference;
use crate::policy::Scope;

/// The API of a gate.
pub struct AdminApi {
    gate: Arc<Gate>,
    reload: Box<dyn Fn() + Send + Sync>,
}

impl AdminApi {
    /// An API; `reload` reads everything again that a SIGHUP reads again.
    pub fn new(gate: Arc<Gate>, reload: impl Fn() + Send + Sync + 'static) -> Self {
        Self { gate, reload: Box::new(reload) }
    }

    async fn answer(&self, request: ApiRequest) -> ApiResponse {
        match (&request.method, &*request.path) {
            (&Method::GET, "images") => match self.gate.images().await {
                Ok(images) => ApiResponse::new(StatusCode::OK, &images),
                Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            },
            (&Method::GET, "check") => self.check(&request).await,
            (&Method::POST, "reload") => {
                (self.reload)();
                ApiResponse::new(StatusCode::OK, &json!({"reloaded": true}))
            }
            (_, "images" | "check" | "reload") => {
                ApiResponse::error(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path")
            }
            _ => ApiResponse::error(StatusCode::NOT_FOUND, "no such call; see docs of the admin API"),
        }
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

/// Judges an image named as people name it.
///
/// # Errors
/// What is wrong with the name, or why it cannot be judged.
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

/// A parameter of a raw query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.replace('+', " "))?;
    percent_encoding::percent_decode_str(&value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
