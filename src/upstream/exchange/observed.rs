//! What the answers of a registry say about its credentials and its limits.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::{Call, Exchange, TokenUse};
use crate::oci::Repository;
use crate::upstream::limits::RequestLane;
use crate::upstream::{Auth, Error};

impl Exchange {
    /// A refusal may mean that the registry no longer accepts the credentials.
    pub(super) fn doubt_credentials(&self, call: &Call, error: &Error) {
        let is_refusal = matches!(error, Error::Unauthorized(_) | Error::Forbidden(_));
        if is_refusal && self.may_send_credentials(call) {
            self.client.health().doubt();
        }
    }

    /// Remembers a repository that the credentials allow.
    pub(super) fn note_served(&self, call: &Call) {
        let is_content = matches!(call.lane, RequestLane::Look | RequestLane::Pull);
        if !is_content || !self.may_send_credentials(call) || !self.is_authorized(call) {
            return;
        }
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.as_ref() != Some(&call.repository) {
            *served = Some(call.repository.clone());
        }
        drop(served);
        self.client.health().note_served();
    }

    /// Whether there are credentials for such a request.
    fn may_send_credentials(&self, call: &Call) -> bool {
        call.tokens == TokenUse::Registry && !matches!(self.config().auth, Auth::Anonymous)
    }

    /// The repository that the credentials allowed last.
    pub(in crate::upstream) fn served(&self) -> Option<Repository> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the authorization for a request, so that it is obtained again with the credentials.
    pub(in crate::upstream) fn forget_authorization(&self, call: &Call) {
        if let Some(audience) = call.audience(&call.url)
            && let Some(known) = self.tokens.known(&audience)
        {
            self.tokens.forget(&audience, &known);
        }
    }

    /// Reports until when the registry asked to wait.
    pub(in crate::upstream) fn report_hold(&self) {
        let now = self.client.clock().now().as_second();
        let until = self.limits.rest().and_then(|seconds| i64::try_from(seconds).ok()?.checked_add(now));
        self.client.health().held(until.and_then(|until| Timestamp::from_second(until).ok()));
    }
}
