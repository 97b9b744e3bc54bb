use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{self, FutureExt};
use tokio::sync::oneshot;

use super::*;
use crate::oci::ImageName;
use crate::scope::Scope;
use crate::store::{AdmittedPull, Store, StoredDecision, VerdictOutcome};

/// Images by their repositories: those with this word in their name have the package.
struct FirstByName(&'static str);

impl FirstSearch for FirstByName {
    fn concerned<'a>(
        &'a self,
        verdicts: Vec<StoredVerdict>,
        _: &'a ChangedNames,
    ) -> BoxFuture<'a, Result<Vec<StoredVerdict>, StoreError>> {
        assert!(verdicts.len() <= SEARCHED as usize);
        let found = verdicts.into_iter().filter(|verdict| verdict.name.repository.as_str().contains(self.0));
        future::ready(Ok(found.collect())).boxed()
    }
}

fn basis(databases: &str) -> VerdictBasis {
    VerdictBasis { databases: databases.into(), rules: "r".into() }
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
}

/// Verdicts on images of these repositories, the most recently pulled last.
async fn pulled(repositories: &[String]) -> (tempfile::TempDir, VerdictStore) {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).await.unwrap().verdicts;
    let pull = |(second, repository): (usize, &String)| AdmittedPull {
        scope: Scope::CLUSTER,
        name: ImageName { host: "a.test".parse().unwrap(), repository: repository.parse().unwrap() },
        digest: Digest::sha256(repository.as_bytes()),
        tag: None,
        kind: Kind::Image,
        outcome: VerdictOutcome { decision: StoredDecision::Admit, reason: String::new(), basis: basis("old") },
        has_checked_va: true,
        until: None,
        at: at(second),
        client: "c".into(),
        client_name: None,
        manifest: None,
    };
    let pulls: Vec<AdmittedPull> = repositories.iter().enumerate().map(pull).collect();
    store.record_pulls(&pulls, &|_| Vec::new()).await.unwrap();
    (state, store)
}

/// 300 images. The ones with the package are the two that nobody has pulled for longest, and one in the middle.
fn repositories() -> Vec<String> {
    let name = |number: usize| if [0, 1, 150].contains(&number) { "with" } else { "without" };
    (0..300).map(|number| format!("team/{}-{number}", name(number))).collect()
}

/// What is judged next, stored as admitted again; the repositories without `team/`.
async fn judge(order: &mut JudgingOrder, store: &VerdictStore, unstored: &mut Vec<Rejudged>) -> Vec<String> {
    let (now, basis) = (at(1000), basis("new"));
    let next = order.next((store, &FirstByName("with-")), (&basis, now), unstored, &|| false).await.unwrap();
    // As a pass does: a page is stored while the next one is judged.
    store.store_rejudged(unstored, now, &|_| Vec::new()).await.unwrap();
    let names = next.iter().map(|verdict| verdict.name.repository.as_str().replace("team/", "")).collect();
    let judged = |before: StoredVerdict| {
        let outcome = VerdictOutcome { basis: basis.clone(), ..before.outcome.clone() };
        Rejudged { before, now: Ok(outcome), until: None, basis: basis.clone() }
    };
    *unstored = next.into_iter().map(judged).collect();
    names
}

#[tokio::test]
async fn images_that_changed_advisories_are_about_are_judged_before_hotter_ones() {
    let (_state, store) = pulled(&repositories()).await;
    let (tell, told) = oneshot::channel();
    let comparing = told.map(|names: Result<ChangedNames, _>| names.ok()).boxed();
    let (mut order, mut unstored) = (JudgingOrder::new(None, Some(comparing)), Vec::new());
    let mut all = judge(&mut order, &store, &mut unstored).await;
    assert_eq!((all.len(), &*all[0]), (PAGE as usize, "without-299"), "the comparison is not waited for");
    assert!(tell.send(ChangedNames::of(&["x"])).is_ok());
    let first = judge(&mut order, &store, &mut unstored).await;
    assert_eq!(first, ["with-150"], "reported as soon as it is found");
    let second = judge(&mut order, &store, &mut unstored).await;
    assert_eq!(second, ["with-1", "with-0"]);
    all.extend(first.into_iter().chain(second));
    loop {
        let next = judge(&mut order, &store, &mut unstored).await;
        if next.is_empty() {
            break;
        }
        all.extend(next);
    }
    assert_eq!(all[PAGE as usize + 3], "without-235", "the others follow where they were interrupted");
    let distinct: HashSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (300, 300), "each is judged once");
    assert_eq!(store.count_outdated(&basis("new")).await.unwrap(), 0);
}

#[tokio::test]
async fn without_a_comparison_the_hottest_are_first() {
    let (_state, store) = pulled(&repositories()).await;
    let nothing: [Option<ChangedNames>; 2] = [None, Some(ChangedNames::default())];
    for names in nothing {
        let mut order = JudgingOrder::new(None, Some(future::ready(names).boxed()));
        let basis = basis("new");
        let next = order.next((&store, &FirstByName("with-")), (&basis, at(1000)), &[], &|| false).await.unwrap();
        assert_eq!((next.len(), next[0].name.repository.as_str()), (PAGE as usize, "team/without-299"));
    }
}

#[tokio::test]
async fn a_search_that_finds_nothing_ends_when_something_has_changed_and_goes_on_later() {
    let (_state, store) = pulled(&repositories()).await;
    let comparing = future::ready(Some(ChangedNames::of(&["x"]))).boxed();
    let (mut order, basis, asked) = (JudgingOrder::new(None, Some(comparing)), basis("new"), AtomicUsize::new(0));
    // After the first of the two pages that are searched.
    let is_over = || asked.fetch_add(1, Ordering::Relaxed) == 1;
    let (search, of) = (FirstByName("none-"), (&basis, at(1000)));
    let places: (&VerdictStore, &dyn FirstSearch) = (&store, &search);
    assert!(order.next(places, of, &[], &is_over).await.unwrap().is_empty());
    let next = order.next(places, of, &[], &is_over).await.unwrap();
    assert_eq!((next.len(), next[0].name.repository.as_str()), (PAGE as usize, "team/without-299"));
    assert_eq!(asked.into_inner(), 4, "each page is searched once");
}
