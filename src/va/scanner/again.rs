//! Matching an image again that was judged before.

use std::sync::Arc;

use super::report::Purpose;
use super::{Scanner, answer, judge, names};
use crate::advisories::{self, Databases, PackageNames};
use crate::cache::BlobFinding;
use crate::inventory::Inventory;
use crate::oci::Digest;
use crate::policy::{Observed, VaEvidence};
use crate::store::Memo;
use crate::va::SourceAnswer;

impl Scanner {
    /// Matches the stored inventory of an image in the background.
    pub(super) async fn match_again(&self, digest: Digest, databases: Arc<Databases>) -> SourceAnswer {
        let stored = self.inventories.stored_and(&digest.to_string(), names::TOPIC).await;
        let (most, now) = (self.databases.max_age(), self.clock.now());
        let metrics = self.metrics.clone();
        let work = move || {
            let (stored, has_names) = stored?;
            let BlobFinding::Known(inventory) = Memo::<BlobFinding<Arc<Inventory>>>::parse(&stored.value)? else {
                return None;
            };
            let inventory = advisories::name_archives(Some(&databases), inventory);
            let names = (!has_names).then(|| PackageNames::of(&inventory));
            let evidence = metrics.of(|| judge(&databases, inventory, most, (Purpose::Decision, now)));
            Some((Arc::new(evidence), names))
        };
        let unknown = || {
            let why = "the packages of the image are no longer known".to_owned();
            Observed { value: VaEvidence::Unavailable { why }, at: now, until: None }
        };
        let Some((evidence, names)) = self.background.run(work).await.flatten() else {
            return answer(Arc::new(unknown()));
        };
        if let Some(names) = names {
            self.store_names(digest, &names).await;
        }
        answer(evidence)
    }
}
