//! Tests for facts before and after they are written, and while the store cannot be written.

use super::writing::TOPIC;
use super::*;
use crate::store::Store;

const NAMES: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

async fn facts(dir: &std::path::Path) -> (Arc<Facts>, Store) {
    let store = Store::open(dir).await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    (Facts::new(store.facts.clone(), Clock::system(), Tasks::new(), Readiness::new(), Epoch::new(), day), store)
}

fn manifest() -> Arc<Manifest> {
    Arc::new(Manifest::parse(NAMES.as_bytes().to_vec().into(), None).unwrap())
}

#[tokio::test]
async fn lookup_is_not_kept_if_a_write_happens_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, store) = facts(dir.path()).await;
    let (name, manifest): (ImageName, _) =
        (ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() }, manifest());
    let member = manifest.descriptors().next().unwrap().digest;
    // The lookup has read that no manifest references the digest, and then the manifest arrives.
    let (facts_too, name_too, written) = (facts.clone(), name.clone(), manifest.clone());
    let read = async {
        let empty: Arc<[Digest]> = store.facts.naming(&name, member, 100).await?.into();
        facts_too.learn_manifest(&name_too, &written);
        Ok(empty)
    };
    let stale = facts.exact(&facts.memory.naming, &name, (name.clone(), member), read).await.unwrap();
    assert!(stale.is_empty());
    assert_eq!(&*facts.naming(&name, member).await.unwrap(), [manifest.digest]);
}

/// A key whose `clone` triggers a write, between the check of the lookup and its insertion.
#[derive(Eq, Hash, PartialEq)]
struct Overtaken;

thread_local! {
    static WRITE: std::cell::RefCell<Option<Box<dyn FnOnce()>>> = const { std::cell::RefCell::new(None) };
}

impl Clone for Overtaken {
    fn clone(&self) -> Self {
        WRITE.take().into_iter().for_each(|write| write());
        Self
    }
}

#[tokio::test]
async fn decision_based_on_an_outdated_lookup_is_not_reused() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, _) = facts(dir.path()).await;
    let (name, memory) = (image_name(), Bounded::new(1000, |_: &Overtaken, _: &&str| 1));
    let (told, begun) = std::sync::mpsc::channel();
    let (writer, written) = (facts.clone(), name.clone());
    // The decision begins when the write is done, and reads the value that the lookup inserts afterwards.
    let write = move || {
        writer.learnt(&written, &manifest());
        told.send(writer.epoch.moment(&written)).unwrap();
    };
    WRITE.set(Some(Box::new(write)));
    facts.insert(&memory, &Overtaken, "old", &facts.now(&name));
    let moment = begun.recv().unwrap();
    assert!(memory.get(&Overtaken).is_none() && !facts.epoch.is_now(&moment));
}

#[tokio::test]
async fn facts_that_cannot_be_written_are_known_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, store) = facts(dir.path()).await;
    let name = ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() };
    let (manifest, tag): (_, Tag) = (manifest(), "1".parse().unwrap());
    let member = manifest.descriptors().next().unwrap().digest;
    assert!(facts.naming(&name, member).await.unwrap().is_empty());
    store.forbid_writing(true).await;
    facts.learn_manifest(&name, &manifest);
    facts.learn_tag(&name, &tag, &manifest, false).await;
    facts.admitted(&name, &manifest, false).await;
    assert!(facts.readiness.report().degraded.contains_key(TOPIC));
    assert_eq!(&*facts.naming(&name, member).await.unwrap(), [manifest.digest]);
    assert!(facts.manifest(&name, manifest.digest).await.unwrap().is_some());
    assert_eq!(&*facts.known_tags(&name, manifest.digest).await.unwrap(), std::slice::from_ref(&tag));
    assert!(store.facts.tag(&name, &tag).await.unwrap().is_none());
    store.forbid_writing(false).await;
    facts.write_waiting().await.unwrap();
    assert!(facts.readiness.report().degraded.is_empty());
    assert_eq!(store.facts.tag(&name, &tag).await.unwrap().unwrap().digest, manifest.digest);
    assert_eq!(store.facts.naming(&name, member, 100).await.unwrap(), [manifest.digest]);
}

/// The test owns the time once the database is open.
#[tokio::test]
async fn a_hanging_database_does_not_delay_pulls_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, store) = facts(dir.path()).await;
    let (name, image) = (image_name(), manifest());
    let index = index(image.digest);
    facts.learn_manifest(&name, &image);
    facts.learn_manifest(&name, &index);
    let held = store.hold_writes().await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    facts.admitted(&name, &image, false).await;
    let limit = began.elapsed();
    assert!(limit < Duration::from_secs(6), "{limit:?}");
    let degraded = facts.readiness.report().degraded;
    assert!(degraded[TOPIC].contains("has not answered"), "{degraded:?}");
    facts.admitted(&name, &index, false).await;
    assert_eq!(began.elapsed(), limit, "nobody else waits");
    assert!(facts.forget_tag(&name, &"1".parse().unwrap()).await.is_err());
    assert_eq!(began.elapsed(), limit);
    tokio::time::resume();
    drop(held);
    facts.write_waiting().await.unwrap();
    assert!(facts.readiness.report().degraded.is_empty());
    for digest in [image.digest, index.digest] {
        assert!(store.facts.manifest(&name, digest).await.unwrap().is_some());
    }
    assert!(!facts.hangs.load(Ordering::Acquire));
}

#[tokio::test]
async fn facts_of_a_client_that_leaves_are_put_off_if_they_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, store) = facts(dir.path()).await;
    let (name, image) = (image_name(), manifest());
    facts.learn_manifest(&name, &image);
    store.forbid_writing(true).await;
    assert!(futures_util::poll!(std::pin::pin!(facts.admitted(&name, &image, false))).is_pending());
    // Otherwise nobody would write the fact: this would not end.
    while !facts.readiness.report().degraded.contains_key(TOPIC) {
        tokio::task::yield_now().await;
    }
    store.forbid_writing(false).await;
    facts.write_waiting().await.unwrap();
    assert!(store.facts.manifest(&name, image.digest).await.unwrap().is_some());
}

fn image_name() -> ImageName {
    ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() }
}

fn index(child: Digest) -> Arc<Manifest> {
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{child}","size":1}}]}}"#);
    Arc::new(Manifest::parse(text.into_bytes().into(), None).unwrap())
}

#[tokio::test]
async fn facts_about_manifests_that_were_not_admitted_are_known_but_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, store) = facts(dir.path()).await;
    let (name, image, tag): (_, _, Tag) = (image_name(), manifest(), "1".parse().unwrap());
    let index = index(image.digest);
    let config = image.descriptors().next().unwrap().digest;
    facts.learn_manifest(&name, &index);
    facts.learn_tag(&name, &tag, &index, true).await;
    assert_eq!(&*facts.unseen_children(&name, 10).await.unwrap(), [(index.digest, image.digest)]);
    facts.learn_manifest(&name, &image);
    assert!(facts.unseen_children(&name, 10).await.unwrap().is_empty(), "it was fetched");
    assert_eq!(&*facts.naming(&name, config).await.unwrap(), [image.digest]);
    assert_eq!(&*facts.naming(&name, image.digest).await.unwrap(), [index.digest]);
    assert_eq!(&*facts.known_tags(&name, image.digest).await.unwrap(), std::slice::from_ref(&tag));
    assert_eq!(facts.images(None, 9).await.unwrap().len(), 1);
    assert!(store.facts.naming(&name, config, 100).await.unwrap().is_empty());
    assert!(store.facts.images(None, 9).await.unwrap().is_empty());
    facts.admitted(&name, &index, false).await;
    assert_eq!(store.facts.tag(&name, &tag).await.unwrap().unwrap().digest, index.digest);
    assert_eq!(store.facts.naming(&name, image.digest, 100).await.unwrap(), [index.digest]);
    assert!(store.facts.naming(&name, config, 100).await.unwrap().is_empty(), "no request was admitted to the child");
    assert_eq!(&*facts.naming(&name, config).await.unwrap(), [image.digest]);
    assert_eq!(facts.images(None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn pull_is_known_at_once_and_tag_can_move_to_a_denied_image() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, store) = facts(dir.path()).await;
    let (name, image, tag): (_, _, Tag) = (image_name(), manifest(), "1".parse().unwrap());
    let index = index(image.digest);
    assert!(facts.pulled_children(&name, &index).await.unwrap().is_empty());
    facts.learn_tag(&name, &tag, &image, false).await;
    facts.admitted(&name, &image, false).await;
    facts.note_pull(&name, &image).await;
    assert_eq!(facts.pulled_children(&name, &index).await.unwrap(), [image.digest]);
    facts.learn_manifest(&name, &index);
    facts.learn_tag(&name, &tag, &index, true).await;
    assert_eq!(store.facts.tag(&name, &tag).await.unwrap().unwrap().digest, index.digest);
    assert!(store.facts.manifest(&name, index.digest).await.unwrap().is_none());
}

#[tokio::test]
async fn forgotten_facts_are_written_again_on_the_next_admission() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, store) = facts(dir.path()).await;
    let (name, image) = (image_name(), manifest());
    let before = facts.now(&name);
    facts.admitted(&name, &image, false).await;
    assert!(facts.is_stored(&name, image.digest).await);
    let admitted = facts.now(&name);
    facts.admitted(&name, &image, false).await;
    assert!(!facts.is_now(&before) && facts.is_now(&admitted), "the second time, nothing new is learned");
    assert!(store.forget_before(Timestamp::MAX).await.unwrap() > 0);
    assert!(!facts.is_now(&admitted));
    assert!(facts.manifest(&name, image.digest).await.unwrap().is_none());
    facts.admitted(&name, &image, false).await;
    assert!(store.facts.manifest(&name, image.digest).await.unwrap().is_some());
}

/// The store is closed, so that each question to it fails.
#[tokio::test]
async fn store_is_not_asked_about_a_tag_without_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let (name, image, tag, other): (_, _, Tag, Tag) =
        (image_name(), manifest(), "1".parse().unwrap(), "2".parse().unwrap());
    let (earlier, store) = facts(dir.path()).await;
    earlier.learn_tag(&name, &tag, &image, false).await;
    earlier.admitted(&name, &image, false).await;
    store.close().await;
    // Which tags have rows is not known yet.
    let (facts, store) = facts(dir.path()).await;
    facts.fill_tag_filter().await.unwrap();
    assert_eq!(facts.tag(&name, &tag).await.unwrap().unwrap().0, image.digest, "a row of an earlier process");
    facts.learn_tag(&name, &other, &image, false).await;
    facts.memory.clear();
    assert_eq!(facts.tag(&name, &other).await.unwrap().unwrap().0, image.digest, "a row of this process");
    facts.memory.clear();
    store.close().await;
    assert!(facts.tag(&name, &tag).await.is_err() && facts.tag(&name, &other).await.is_err());
    for unknown in 3..50 {
        assert_eq!(facts.tag(&name, &unknown.to_string().parse().unwrap()).await.unwrap(), None);
    }
}

#[test]
fn any_tag_may_have_a_row_until_all_rows_were_read() {
    let filter = TagFilter::new();
    assert!(filter.may_have(&image_name(), &Tag::latest()));
}
