//! The checks of a rule against the evidence: signatures (`signed`) and vulnerabilities (`assess`). Each gives a
//! verdict.

pub(super) mod assess;
pub(super) mod distinct;
pub(super) mod signed;
pub(super) mod verdict;
mod ways;
