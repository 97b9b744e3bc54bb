//! A licence of a component (CycloneDX 1.6, `licenseChoice`).

use serde::Deserialize;

/// A licence by its SPDX identifier or its name, or an SPDX expression.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BomLicence {
    license: Option<NamedLicence>,
    expression: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct NamedLicence {
    id: Option<String>,
    name: Option<String>,
}

impl BomLicence {
    /// The licence as it is written; `None` if the entry names none.
    pub(super) fn text(&self) -> Option<&str> {
        let named = self.license.as_ref().and_then(|license| license.id.as_deref().or(license.name.as_deref()));
        self.expression.as_deref().or(named)
    }
}
