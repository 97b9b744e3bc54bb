//! The trusted roots of the configuration, for authorities that name none.

use super::{CONFIGURATION, Materials, Settings};
use crate::markup::{Place, Problems};
use crate::policy::keys::trusted_root::TrustedRoot;
use crate::policy::signatures::authority::Authority;

/// Reads the trusted roots of the configuration. They are read with the documents, so that a reload applies a changed
/// root.
pub(super) fn read(settings: &Settings, materials: &dyn Materials, problems: &Problems) -> Vec<TrustedRoot> {
    let place = Place::whole(problems.file(CONFIGURATION));
    let read = |path: &String| {
        let bytes = materials.file(CONFIGURATION, path);
        let root = bytes.and_then(|bytes| super::material::trusted_root(path, &bytes));
        let root = root.map(|root| root.written_at(materials.modified(CONFIGURATION, path)));
        root.map_err(|why| problems.error(place, format!("trust.trusted_roots: {path:?}: {why}"))).ok()
    };
    settings.trusted_roots.iter().filter_map(read).collect()
}

/// The authority with the roots of the configuration, if it uses roots and names none.
pub(super) fn completed(authority: &Authority, roots: &[TrustedRoot], problems: &Problems, at: Place) -> Authority {
    let Some(scheme) = authority.scheme().with_trusted_roots(roots) else { return authority.clone() };
    let name = authority.name();
    if roots.is_empty() && scheme.needs_trusted_root() {
        let message = format!("authority {name:?} needs a trusted root: without one, nothing is verified for it");
        problems.warn(at, message, "set [trust] trusted_roots in the configuration, or trustedRoot in keyless");
    }
    Authority::new(name, scheme)
}
