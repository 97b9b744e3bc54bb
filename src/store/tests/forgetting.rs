//! Facts that are forgotten.

use super::*;

/// The number of rows of the kinds that peers cause.
async fn rows(store: &Store) -> i64 {
    let sql = "SELECT (SELECT COUNT(*) FROM manifests) + (SELECT COUNT(*) FROM members) \
               + (SELECT COUNT(*) FROM image_tops) + (SELECT COUNT(*) FROM tags) \
               + (SELECT COUNT(*) FROM tag_history) + (SELECT COUNT(*) FROM links) + (SELECT COUNT(*) FROM evidence)";
    sqlx::query(sql).fetch_one(&store.database.readers).await.unwrap().try_get(0).unwrap()
}

/// Adds one row of each kind, about a separate image.
async fn fill(store: &Store, number: i64) -> Manifest {
    let image = manifest("config", Digest::sha256(&number.to_be_bytes()));
    store.facts.record(NewFacts::new(at(number)).manifest(&name(), &image, at(number))).await.unwrap();
    store
        .facts
        .record(NewFacts::new(at(number)).tag(
            &name(),
            &format!("v{number}").parse().unwrap(),
            image.digest,
            at(number),
        ))
        .await
        .unwrap();
    store.facts.record(NewFacts::new(at(number)).link(&name(), image.digest, 1, at(number))).await.unwrap();
    let evidence = Observed { value: "x".repeat(2000), at: at(number), until: None };
    store.facts.record_evidence("trust", &format!("{}@{} key", name(), image.digest), evidence).await.unwrap();
    image
}

#[tokio::test]
async fn facts_are_forgotten_by_age_unless_content_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (kept, gone, pulled) = (fill(&store, 1).await, fill(&store, 2).await, fill(&store, 3).await);
    store.node.record(NewContent::manifest(&kept, at(1))).await.unwrap();
    store.facts.record(NewFacts::new(at(50)).pull(&name(), pulled.digest, at(50))).await.unwrap();
    let before = store.facts.forgettings();
    assert_eq!(
        store.forget_before(at(10)).await.unwrap(),
        6 + 4,
        "all facts about one image, and the old facts about the pulled one"
    );
    assert_eq!(store.facts.forgettings(), before + 1);
    for (image, is_known) in [(&kept, true), (&gone, false), (&pulled, true)] {
        assert_eq!(store.facts.manifest(&name(), image.digest).await.unwrap().is_some(), is_known);
    }
    assert_eq!(rows(&store).await, 6 + 2);
    assert_eq!(store.forget_before(at(10)).await.unwrap(), 0);
    assert_eq!(store.facts.forgettings(), before + 1, "nothing was forgotten");
    assert_eq!(
        store.facts.drop_stale(at(60), at(60)).await.unwrap(),
        1,
        "the tag that was seen too long ago to be a name"
    );
}

/// The owners of copies of these rows must drop them, and no decision may be reused that depends on them.
#[tokio::test]
async fn deletions_before_a_database_failure_are_reported() {
    let (dir, epoch) = (tempfile::tempdir().unwrap(), Epoch::new());
    let store = Store::open(dir.path()).await.unwrap().with_epoch(epoch.clone());
    let image = fill(&store, 1).await;
    let (before, moment) = (store.facts.forgettings(), epoch.moment(name()));
    sqlx::query("DROP TABLE evidence").execute(&store.database.writer).await.unwrap();
    assert!(store.forget_before(at(10)).await.is_err());
    assert!(store.facts.manifest(&name(), image.digest).await.unwrap().is_none(), "it is gone");
    assert!(store.facts.forgettings() != before && !epoch.is_now(&moment));
}

#[tokio::test]
async fn least_recently_used_facts_are_deleted_until_the_rest_fits_and_the_file_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (mut oldest, mut newest) = (None, None);
    for number in 0..300 {
        let image = fill(&store, number).await;
        oldest.get_or_insert(image.digest);
        newest = Some(image.digest);
    }
    let size = store.live_bytes().await.unwrap();
    let file = || std::fs::metadata(dir.path().join("pullgate.db")).unwrap().len();
    assert!(store.forget_least_used(size / 2, at(300)).await.unwrap() > 0);
    assert!(store.live_bytes().await.unwrap() <= size / 2);
    assert!(store.facts.manifest(&name(), oldest.unwrap()).await.unwrap().is_none());
    assert!(
        store.facts.manifest(&name(), newest.unwrap()).await.unwrap().is_some(),
        "no more rows are deleted than necessary"
    );
    assert!(store.shrink().await.unwrap() > 0);
    assert!(file() <= size / 2 + 64 * 1024, "{} of {size}", file());
    store.forget_least_used(0, at(300)).await.unwrap();
    assert_eq!(rows(&store).await, 0, "all rows that no content needs can be deleted");
}

/// One image with very many packages must not evict others.
#[tokio::test]
async fn large_evidence_is_forgotten_even_if_content_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let usual = fill(&store, 1).await;
    store.node.record(NewContent::manifest(&usual, at(1))).await.unwrap();
    let (before, large) = (store.live_bytes().await.unwrap(), usual.digest.to_string());
    let evidence = Observed { value: "x".repeat(2 << 20), at: at(1), until: None };
    store.facts.record_evidence("layer", &large, evidence).await.unwrap();
    assert_eq!(store.forget_least_used(before, at(2)).await.unwrap(), 0, "content needs it");
    assert_eq!(store.forget_largest(8 << 20).await.unwrap(), 0, "there is room");
    assert_eq!(store.forget_largest(0).await.unwrap(), 1);
    assert!(store.facts.evidence("layer", &large, at(2)).await.unwrap().is_none());
    let usual = format!("{}@{} key", name(), usual.digest);
    assert!(store.facts.evidence("trust", &usual, at(2)).await.unwrap().is_some(), "small rows stay");
}
