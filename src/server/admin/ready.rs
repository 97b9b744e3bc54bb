//! The forms of `/readyz`.

/// How `/readyz` answers.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum ReadyFormat {
    /// JSON with what is wrong, for probes.
    Short,
    /// `?verbose=json`: the same with all details.
    Detailed,
    /// `?verbose`: a line for each part, for people.
    Text,
}

impl ReadyFormat {
    /// The format that a query asks for.
    pub(super) fn of(query: Option<&str>) -> Self {
        let mut parameters = query.unwrap_or_default().split('&');
        match parameters.find(|parameter| parameter.split('=').next() == Some("verbose")) {
            None => Self::Short,
            Some("verbose=json") => Self::Detailed,
            Some(_) => Self::Text,
        }
    }
}
