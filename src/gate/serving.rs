//! What serving a request takes besides the judgement: blobs, lists, repeated decisions, and the record and metrics of
//! each request.

pub(super) mod blob;
pub(super) mod listing;
pub(super) mod metrics;
pub(super) mod recent;
pub(super) mod record;
pub(super) mod warm;
