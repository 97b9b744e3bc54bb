//! The names of the packages in each image. They tell which images changed advisories concern.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Scanner;
use crate::advisories::{self, ChangedNames, Databases, PackageNames};
use crate::inventory::Inventory;
use crate::oci::Digest;
use crate::policy::Observed;
use crate::runtime::Background;
use crate::store::StoreError;

/// The topic of the rows, by the digest of the image. If the way in which names are made changes, the topic must
/// change.
pub(super) const TOPIC: &str = "package-names-1";

/// The databases at one moment, to be compared with later ones.
#[derive(Clone)]
pub struct DatabaseSnapshot(Databases);

impl DatabaseSnapshot {
    /// Whether both are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.generation() == other.0.generation()
    }
}

impl Scanner {
    /// The databases in use. `None` if there are none, or they cannot be used.
    pub fn snapshot(&self) -> Option<DatabaseSnapshot> {
        self.databases.current().ok().flatten().map(|databases| DatabaseSnapshot(databases.without_details()))
    }

    /// Determines in the background which packages' advisories have changed. `None` if that cannot be determined. Ends
    /// early if the future is dropped.
    pub fn changed_names(
        &self,
        before: &DatabaseSnapshot,
        now: &DatabaseSnapshot,
    ) -> BoxFuture<'static, Option<ChangedNames>> {
        let (before, now) = (before.0.clone(), now.0.clone());
        // Separate threads: those of the other pool are matching images meanwhile.
        let background = Background::new();
        let compare = async move {
            let waiting = Arc::new(());
            let waits = Arc::downgrade(&waiting);
            let is_wanted = move || waits.strong_count() > 0;
            let names = background.run(move || advisories::changed_names(&before, &now, &is_wanted)).await;
            drop(waiting);
            names.flatten()
        };
        compare.boxed()
    }

    /// Which of these images have packages with one of these names. An image whose packages are not known has none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn concerned(&self, images: &[Digest], names: &ChangedNames) -> Result<HashSet<Digest>, StoreError> {
        let subjects: Vec<String> = images.iter().map(ToString::to_string).collect();
        let known = self.store.evidence_about(TOPIC, &subjects).await?;
        let is_concerned = |text: &String| PackageNames::parse(text).is_some_and(|own| names.concern(&own));
        let concerned = known.iter().filter(|(_, text)| is_concerned(text));
        Ok(concerned.filter_map(|(subject, _)| subject.parse().ok()).collect())
    }

    /// Stores the names of an image whose layers were just read; nobody waits for it. If it has archives that the
    /// databases name, its names are stored when it is judged again.
    pub(super) fn keep_names(&self, image: Digest, inventory: &Arc<Inventory>) {
        if !inventory.unnamed.is_empty() {
            return;
        }
        let (scanner, inventory) = (self.clone(), inventory.clone());
        self.tasks.spawn(async move {
            let names = scanner.tasks.spawn_blocking(move || PackageNames::of(&inventory)).await;
            if let Ok(names) = names {
                scanner.store_names(image, &names).await;
            }
        });
    }

    /// Stores the names of an image. Without them, it is judged again in the usual order.
    pub(super) async fn store_names(&self, image: Digest, names: &PackageNames) {
        let row = Observed { value: names.to_string(), at: self.clock.now(), until: None };
        if let Err(error) = self.store.record_evidence(TOPIC, &image.to_string(), row).await {
            tracing::debug!(%error, %image, "the names of the packages of an image cannot be stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks};
    use crate::store::Store;
    use crate::va::databases::AdvisoryDatabases;
    use crate::va::layers::LayerReadings;

    #[tokio::test]
    async fn images_are_found_by_the_names_of_their_packages() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).await.unwrap();
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let layers = LayerReadings::new(state.path().to_owned(), &store.facts, &clock, &tasks);
        let (readiness, metrics) = (Readiness::new(), Metrics::default());
        let databases = AdvisoryDatabases::open(None, &tasks, clock.clone(), readiness, Epoch::new(), &metrics);
        let scanner = Scanner::new(layers, databases, &store.facts, &clock, &tasks, &metrics);
        let image = |name: &str| Digest::sha256(name.as_bytes());
        for (name, package) in [("a", "Zope.Interface"), ("b", "django")] {
            let package = json!({"ecosystem": "pypi", "name": package, "version": "1"});
            let inventory = serde_json::from_value(json!({"packages": [package], "gaps": []})).unwrap();
            scanner.store_names(image(name), &PackageNames::of(&inventory)).await;
        }
        let images = [image("a"), image("b"), image("not known")];
        for (names, expected) in [(&["zope-interface"][..], &["a"][..]), (&["zope"], &[]), (&["django", "x"], &["b"])] {
            let found = scanner.concerned(&images, &ChangedNames::of(names)).await.unwrap();
            assert_eq!(found, expected.iter().map(|name| image(name)).collect(), "{names:?}");
        }
        let row = Observed { value: "{}".to_owned(), at: clock.now(), until: None };
        store.facts.record_evidence(super::super::INVENTORIES, "an image", row).await.unwrap();
        scanner.count_images().await;
        assert!(metrics.render().contains("pullgate_va_images 1"), "names are not counted");
        tasks.stop();
    }
}
