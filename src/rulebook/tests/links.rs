//! Changes that only links show.

use std::os::unix::fs::symlink;

use super::*;
use crate::rulebook::links::LinkTargets;

/// Atomic releases switch a link by a rename.
fn switch(link: &Path, target: &str) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

/// Loads the documents of `policies`, changes something, and waits until both documents are in use.
async fn is_noticed(prepare: impl FnOnce(&Path), change: impl FnOnce(&Path), policies: &str) {
    let root = tempfile::tempdir().unwrap();
    for (release, text) in [("one", CLUSTER.to_owned()), ("two", format!("{CLUSTER}---\n{OWN}"))] {
        fs::create_dir_all(root.path().join(release).join("policies")).unwrap();
        fs::write(root.path().join(release).join("policies/all.yaml"), text).unwrap();
    }
    prepare(root.path());
    let (metrics, tasks) = (Metrics::default(), Tasks::new());
    let folder = root.path().join(policies);
    let sources = sources(&[&*folder]);
    let load = load(sources, Settings::default(), false, Readiness::new(), Epoch::new(), Clock::system(), &metrics);
    let rulebook = Arc::new(load.unwrap());
    rulebook.watch(&tasks);
    assert_eq!(rulebook.rules().documents(), 1);
    change(root.path());
    let reread = async {
        while rulebook.rules().documents() != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Less than the interval after which everything is read again.
    tokio::time::timeout(Duration::from_secs(30), reread).await.expect("the change is noticed");
    assert!(tasks.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn links_that_are_switched_and_files_behind_links_are_noticed() {
    let both = || format!("{CLUSTER}---\n{OWN}");
    let directory = is_noticed(
        |root| symlink("one/policies", root.join("policies")).unwrap(),
        |root| switch(&root.join("policies"), "two/policies"),
        "policies",
    );
    let above = is_noticed(
        |root| symlink("one", root.join("current")).unwrap(),
        |root| switch(&root.join("current"), "two"),
        "current/policies",
    );
    let file = is_noticed(
        |root| {
            fs::create_dir(root.join("policies")).unwrap();
            symlink("../one/policies/all.yaml", root.join("policies/all.yaml")).unwrap();
        },
        |root| fs::write(root.join("one/policies/all.yaml"), both()).unwrap(),
        "policies",
    );
    let folder = is_noticed(
        |root| {
            fs::create_dir(root.join("policies")).unwrap();
            symlink("../one/policies", root.join("policies/team")).unwrap();
        },
        |root| fs::write(root.join("one/policies/own.yaml"), OWN).unwrap(),
        "policies",
    );
    tokio::join!(directory, above, file, folder);
}

#[test]
fn other_changes_are_left_to_the_watch() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("all.yaml"), CLUSTER).unwrap();
    let before = LinkTargets::of(dir.path());
    fs::write(dir.path().join("own.yaml"), OWN).unwrap();
    assert_eq!(LinkTargets::of(dir.path()), before);
}
