//! Scopes: the group of clients that a request belongs to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Whose rules apply to a request: a Kubernetes namespace or any other named group of clients.
///
/// The empty scope, [`Scope::CLUSTER`], has only the cluster-wide rules.
///
/// ```
/// use pullgate::scope::Scope;
/// let scope: Scope = "team-a".parse().unwrap();
/// assert_eq!(scope.name(), Some("team-a"));
/// assert_eq!("".parse(), Ok(Scope::CLUSTER));
/// assert!("Team A".parse::<Scope>().is_err());
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope(Option<Arc<str>>);

impl Scope {
    /// No namespace: only cluster-wide rules apply.
    pub const CLUSTER: Self = Self(None);

    /// The name of the namespace; `None` for [`Scope::CLUSTER`].
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    /// Parses a DNS label, the form of Kubernetes namespaces (RFC 1123). The empty text is [`Scope::CLUSTER`].
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        if text.is_empty() {
            return Ok(Self::CLUSTER);
        }
        let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = text.bytes().all(|c| alphanumeric(c) || c == b'-');
        let ends = text.bytes().next().is_some_and(alphanumeric) && text.bytes().last().is_some_and(alphanumeric);
        if inner && ends && text.len() <= 63 { Ok(Self(Some(text.into()))) } else { Err(InvalidScope) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or_default())
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a scope is a namespace: at most 63 lower-case letters, digits and dashes, starting and ending with a letter or digit"
)]
/// The text is not a valid scope.
pub struct InvalidScope;
