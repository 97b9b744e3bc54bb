//! How complete the contents of a document are (CycloneDX, `compositions`).

use serde::Deserialize;

use crate::va::reports::document::text_or_nothing;

#[derive(Deserialize)]
pub(super) struct Composition {
    #[serde(default, deserialize_with = "text_or_nothing")]
    aggregate: Option<String>,
    assemblies: Option<Vec<String>>,
    dependencies: Option<Vec<String>>,
    vulnerabilities: Option<Vec<String>>,
}

impl Composition {
    /// What is missing of the subject or of the vulnerabilities, if the document states that something is.
    pub(super) fn missing(&self, subject: Option<&str>) -> Option<String> {
        let aggregate = self.aggregate.as_deref()?.trim().to_ascii_lowercase();
        let is_partial = aggregate.starts_with("incomplete") || aggregate == "unknown";
        let mut parts = self.assemblies.iter().chain(&self.dependencies).flatten().peekable();
        let of_vulnerabilities = self.vulnerabilities.iter().flatten().next().is_some();
        // A composition that names nothing applies to the whole document.
        let is_of_all = parts.peek().is_none() || parts.any(|part| Some(&**part) == subject);
        (is_partial && (of_vulnerabilities || is_of_all))
            .then(|| format!("the document declares its composition as {aggregate}"))
    }
}
