//! What policies require: rules and each of their requirements, exemptions, and the selection of the rules for a
//! subject.

pub(super) mod banned;
pub(super) mod base_image;
pub(super) mod exemption;
pub(super) mod licence;
pub(super) mod may_name;
pub(super) mod rule;
pub(super) mod ruleset;
pub(super) mod va_rule;
