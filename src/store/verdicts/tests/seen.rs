//! Since when images and their issues are known.

use super::*;

#[tokio::test]
async fn history_begins_with_the_first_sight_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (name, digest) = (pull("a", "", "", 0).name, manifest("a").digest);
    let times = |store: &VerdictStore, now| {
        let (store, name) = (store.clone(), name.clone());
        async move { store.image_times(&name, digest, &Scope::CLUSTER, at(now)).await.unwrap() }
    };
    assert_eq!(
        times(&store.verdicts, 10).await,
        ImageTimes { known_since: at(10), admitted_since: None, noted_since: None }
    );
    assert_eq!(times(&store.verdicts, 20).await.known_since, at(10));
    record(&store.verdicts, &[pull("a", "1", "c", 30)]).await;
    record(&store.verdicts, &[pull("a", "1", "c", 40)]).await;
    let issues = |store: &VerdictStore, names: &'static [&'static str], now| {
        let store = store.clone();
        async move { store.issue_times(digest, &new(names, now), at(now)).await.unwrap() }
    };
    assert_eq!(issues(&store.verdicts, &["CVE-1", "CVE-2"], 50).await["CVE-1"], at(50));
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(
        times(&store.verdicts, 60).await,
        ImageTimes { known_since: at(10), admitted_since: Some(at(30)), noted_since: None }
    );
    let seen = issues(&store.verdicts, &["CVE-2", "CVE-3"], 60).await;
    assert_eq!((seen["CVE-1"], seen["CVE-2"], seen["CVE-3"]), (at(50), at(50), at(60)));
    // Under another name it was seen earlier; what is not known stays so, and no time becomes later.
    let earlier =
        IssueTimes::from([("CVE-3".to_owned(), at(50)), ("CVE-1".to_owned(), at(55)), ("CVE-9".to_owned(), at(1))]);
    store.verdicts.issues_seen_earlier(digest, &earlier).await.unwrap();
    let seen = store.verdicts.known_issues(digest).await.unwrap();
    assert_eq!((seen["CVE-1"], seen["CVE-3"], seen.get("CVE-9")), (at(50), at(50), None));
    // More issues than are kept: they do not look new.
    let many: Vec<String> = (0..20_000).map(|n| format!("CVE-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let seen = store.verdicts.issue_times(digest, &new(&many, 70), at(70)).await.unwrap();
    assert_eq!(seen.len(), 20_000);
    assert!(seen.values().filter(|seen| **seen == at(70)).count() < 10_001);
    assert!(seen.values().any(|seen| *seen == Timestamp::UNIX_EPOCH));
}

/// The store opened again, after statements that make its database one of an earlier version.
async fn reopened_after(store: Store, dir: &std::path::Path, statements: &[&'static str]) -> Store {
    for sql in statements {
        sqlx::query(*sql).execute(&store.database.writer).await.unwrap();
    }
    store.close().await;
    Store::open(dir).await.unwrap()
}

#[tokio::test]
async fn the_history_of_an_earlier_version_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = pull("a", "", "", 0).name;
    let facts = crate::store::NewFacts::new(at(9)).manifest(&name, &manifest("a"), at(5)).pull(
        &name,
        manifest("a").digest,
        at(7),
    );
    store.facts.record(facts).await.unwrap();
    let earlier = [
        "DELETE FROM _sqlx_migrations WHERE version = 8",
        "DROP TABLE image_history",
        "DROP TABLE issue_history",
        "DROP TABLE verdicts",
        "DROP TABLE verdict_manifests",
        "DROP TABLE verdict_clients",
        "DROP TABLE events",
        "DELETE FROM _sqlx_migrations WHERE version = 10",
        "DROP TABLE checked_admissions",
        "DELETE FROM _sqlx_migrations WHERE version = 11",
        "DROP TABLE judged_repositories",
        "DROP TABLE repository_issues",
        "DELETE FROM _sqlx_migrations WHERE version = 16",
    ];
    let store = reopened_after(store, dir.path(), &earlier).await;
    let times = store.verdicts.image_times(&name, manifest("a").digest, &Scope::CLUSTER, at(100)).await.unwrap();
    // Whether vulnerabilities were checked when it was admitted is not known.
    assert_eq!(times, ImageTimes { known_since: at(5), admitted_since: None, noted_since: None });
}

/// An image that a scope admitted without looking for vulnerabilities, or against its rules, was never found to be
/// clean.
#[tokio::test]
async fn only_checked_admissions_to_the_same_scope_count() {
    let (_dir, store) = store().await;
    let (name, digest) = (pull("a", "", "", 0).name, manifest("a").digest);
    let scope = |name: &str| -> Scope { name.parse().unwrap() };
    let unchecked = AdmittedPull { has_checked_va: false, scope: scope("dev"), ..pull("a", "1", "c", 10) };
    let would_deny = VerdictOutcome { decision: StoredDecision::WouldDeny, ..pull("a", "1", "c", 0).outcome };
    let reported = AdmittedPull { outcome: would_deny, scope: scope("audit"), ..pull("a", "1", "c", 20) };
    let checked = AdmittedPull { scope: scope("prod"), ..pull("a", "1", "c", 30) };
    record(&store, &[unchecked, reported, checked]).await;
    for (of, admitted_since) in [("dev", None), ("audit", None), ("prod", Some(at(30))), ("", None)] {
        let times = store.image_times(&name, digest, &scope(of), at(50)).await.unwrap();
        assert_eq!(times, ImageTimes { known_since: at(10), admitted_since, noted_since: None }, "{of}");
    }
}

/// Another build of an image does not make its issues new, whoever built it and however it is called.
#[tokio::test]
async fn an_issue_is_as_old_in_a_repository_as_in_its_first_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = |repository: &str| ImageName { repository: repository.parse().unwrap(), ..pull("a", "", "", 0).name };
    let times = |store: &VerdictStore, repository: &str, issues: &'static [&'static str], now| {
        let (store, name) = (store.clone(), name(repository));
        async move {
            store.note_repository(&name, at(now)).await.unwrap();
            store.repository_issue_times(&name, &new(issues, now), at(now)).await.unwrap()
        }
    };
    assert_eq!(times(&store.verdicts, "team/app", &[], 5).await, IssueTimes::new());
    assert_eq!(times(&store.verdicts, "team/app", &["CVE-1", "CVE-2"], 10).await["CVE-1"], at(10));
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    let seen = times(&store.verdicts, "team/app", &["CVE-2", "CVE-3"], 20).await;
    assert_eq!((seen.len(), seen["CVE-2"], seen["CVE-3"]), (2, at(10), at(20)));
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 30).await["CVE-2"], at(30));
    // Under another name it was seen earlier.
    let earlier =
        IssueTimes::from([("CVE-3".to_owned(), at(11)), ("CVE-2".to_owned(), at(12)), ("CVE-8".to_owned(), at(1))]);
    store.verdicts.repository_issues_seen_earlier(&name("team/app"), &earlier).await.unwrap();
    let seen = store.verdicts.known_in_repository(&name("team/app"), &["CVE-2", "CVE-3", "CVE-8"]).await.unwrap();
    assert_eq!(seen, IssueTimes::from([("CVE-2".to_owned(), at(10)), ("CVE-3".to_owned(), at(11))]));
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 30).await["CVE-2"], at(30));
    // More than are kept: they do not look new.
    let many: Vec<String> = (0..30_000).map(|n| format!("CVE-9-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let seen = store.verdicts.repository_issue_times(&name("team/app"), &new(&many, 40), at(40)).await.unwrap();
    assert_eq!(seen.values().filter(|seen| **seen == at(40)).count(), 20_000 - 3);
    assert_eq!(seen.values().filter(|seen| **seen == Timestamp::UNIX_EPOCH).count(), 10_003);
    // The repository that was judged last is kept.
    let day = 24 * 60 * 60;
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 30 + day).await["CVE-2"], at(30));
    store.verdicts.trim_repositories_to(20_000, 9).await.unwrap();
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 40 + day).await["CVE-2"], at(30));
    assert_eq!(times(&store.verdicts, "team/app", &["CVE-1"], 50 + day).await["CVE-1"], at(50 + day));
    store.verdicts.trim_repositories_to(20_000, 1).await.unwrap();
    assert_eq!(times(&store.verdicts, "team/app", &["CVE-1"], 55 + day).await["CVE-1"], at(50 + day));
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 60 + day).await["CVE-2"], at(60 + day), "forgotten");
}

#[tokio::test]
async fn noting_begins_once_per_repository_and_includes_earlier_issues() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(!store.verdicts.notes_issues().await.unwrap());
    let old = pull("a", "1", "c", 30);
    record(&store.verdicts, std::slice::from_ref(&old)).await;
    let other = ImageName { repository: "team/other".parse().unwrap(), ..old.name.clone() };
    for (name, known_since) in [(&old.name, Some(at(30))), (&other, None)] {
        let supposed = store.verdicts.supposed_noting(name, at(50)).await.unwrap();
        assert_eq!(supposed, RepositoryNoting { noted_since: at(50), known_since }, "{name}");
        assert_eq!(store.verdicts.noted_repository(name).await.unwrap(), None, "nothing is written");
    }
    for (name, now, noted_since, known_since) in [
        (&old.name, 50, 50, Some(at(30))),
        (&other, 60, 60, None),
        (&old.name, 70 + 24 * 60 * 60, 50, Some(at(30))),
        (&other, 80 + 24 * 60 * 60, 60, None),
    ] {
        let noted = store.verdicts.note_repository(name, at(now)).await.unwrap();
        assert_eq!(noted, RepositoryNoting { noted_since: at(noted_since), known_since }, "{name} {now}");
    }
    assert!(store.verdicts.notes_issues().await.unwrap());
    let times = async || store.verdicts.known_image(&old.name, old.digest, &Scope::CLUSTER).await.unwrap().unwrap();
    assert_eq!(times().await.noted_since, None);
    store.verdicts.image_noted(&old.name, old.digest, at(51)).await.unwrap();
    assert_eq!(
        times().await,
        ImageTimes { known_since: at(30), admitted_since: Some(at(30)), noted_since: Some(at(51)) }
    );
}

#[tokio::test]
async fn issues_seen_by_an_earlier_version_are_known_for_the_repositories() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (one, two) = (pull("a", "1", "c", 30), pull("b", "1", "c", 30));
    record(&store.verdicts, &[one.clone(), two.clone()]).await;
    for (image, issues, second) in [(&one, ["CVE-1", "CVE-2"], 50), (&two, ["CVE-2", "CVE-3"], 40)] {
        store.verdicts.issue_times(image.digest, &new(&issues, second), at(second)).await.unwrap();
    }
    let earlier = [
        "DELETE FROM _sqlx_migrations WHERE version = 11",
        "DROP TABLE judged_repositories",
        "DROP TABLE repository_issues",
        "DELETE FROM _sqlx_migrations WHERE version = 16",
        "ALTER TABLE image_history DROP COLUMN noted_since",
    ];
    let store = reopened_after(store, dir.path(), &earlier).await;
    let noted = store.verdicts.noted_repository(&one.name).await.unwrap();
    let expected = RepositoryNoting { noted_since: at(40), known_since: Some(at(30)) };
    assert_eq!(noted, Some(expected), "the images were admitted before their issues were noted");
    for (image, noted) in [(&one, 50), (&two, 40)] {
        let times = store.verdicts.known_image(&one.name, image.digest, &Scope::CLUSTER).await.unwrap().unwrap();
        assert_eq!(times.noted_since, Some(at(noted)));
    }
    let issues = ["CVE-1", "CVE-2", "CVE-3", "CVE-4"];
    let seen = store.verdicts.repository_issue_times(&one.name, &new(&issues, 90), at(90)).await.unwrap();
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [at(50), at(40), at(40), at(90)]);
}
