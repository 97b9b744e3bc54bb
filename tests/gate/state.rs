//! State on disk: how large it grows, and who may read it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use pullgate::sample::image;

use crate::commands::{pullgate, text};
use crate::harness::{TestGate, policy};
use crate::pull::{multi, simple};
use crate::support::TestRegistry;

const DENY_UNSCANNED: &str = "  - {name: \"*\", policy: {va: {unscanned: deny}}}\n";

/// The number of rows about manifests, their members and tags.
async fn rows(state: &Path) -> i64 {
    use sqlx::{Connection as _, Row as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(state.join("pullgate.db")).read_only(true);
    let mut database = sqlx::SqliteConnection::connect_with(&options).await.expect("a database");
    let sql = "SELECT (SELECT COUNT(*) FROM manifests) + (SELECT COUNT(*) FROM members) + (SELECT COUNT(*) FROM tags) \
               + (SELECT COUNT(*) FROM tag_history) + (SELECT COUNT(*) FROM links)";
    sqlx::query(sql).fetch_one(&mut database).await.expect("a count").get(0)
}

#[tokio::test]
async fn denied_images_leave_no_rows_and_their_layers_are_denied() {
    let registry = TestRegistry::start().await;
    let images: Vec<_> = (0..5).map(|n| simple(&format!("denied {n}"))).collect();
    for (n, image) in images.iter().enumerate() {
        registry.push("library/app", Some(&n.to_string()), image);
    }
    registry.push("library/app", Some("index"), &image::index(&images));
    let gate = TestGate::new(&registry, &policy(DENY_UNSCANNED)).start().await;
    assert_eq!(gate.get("/library/app/manifests/index").await.status, 403);
    for (n, image) in images.iter().enumerate() {
        assert_eq!(gate.head(&format!("/library/app/manifests/{n}")).await.status, 403);
        let (layer, _) = image.blobs.last().expect("a layer");
        let got = gate.get(&format!("/library/app/blobs/{layer}")).await;
        assert_eq!(got.status, 403, "{}", got.text());
    }
    assert_eq!(rows(&gate.file("state")).await, 0);
    gate.set_policy(crate::harness::ALLOW_ALL);
    assert_eq!(gate.get("/library/app/manifests/0").await.status, 200);
    assert!(rows(&gate.file("state")).await >= 4, "an admitted image is recorded with its members and its tag");
}

#[tokio::test]
async fn manifests_with_too_many_descriptors_are_refused() {
    let registry = TestRegistry::start().await;
    let child = simple("child").plain_descriptor();
    let kind = "application/vnd.oci.image.index.v1+json";
    let many = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": vec![child; 1001]});
    registry.push("library/app", Some("many"), &image::raw(kind, &many));
    let gate = TestGate::new(&registry, crate::harness::ALLOW_ALL).start().await;
    let got = gate.get("/library/app/manifests/many").await;
    assert!(got.status >= 400 && got.text().contains("1,000"), "{} {}", got.status, got.text());
}

/// Without a command and before the next timer tick: heavy pulling cannot make the database grow for long.
#[tokio::test]
async fn excess_rows_are_removed_with_the_content_that_needs_them() {
    let registry = TestRegistry::start().await;
    let kind = "application/vnd.oci.image.index.v1+json";
    let made = TestGate::new(&registry, crate::harness::ALLOW_ALL).with("[cache]\nmax_database = \"1MiB\"");
    let gate = made.start().await;
    for n in 0..11_u32 {
        let child = |m: u32| {
            let digest = pullgate::oci::Digest::sha256(&(n * 1000 + m).to_be_bytes());
            serde_json::json!({"mediaType": "application/x", "digest": digest, "size": 1})
        };
        let children: Vec<_> = (0..1000).map(child).collect();
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": children});
        registry.push("library/app", Some(&n.to_string()), &image::raw(kind, &index));
        assert_eq!(gate.get(&format!("/library/app/manifests/{n}")).await.status, 200);
    }
    // Sooner than the timer, which ticks every half minute.
    let few = async {
        while rows(&gate.file("state")).await > 6_000 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), few).await.expect("rows go");
    assert_eq!(gate.get("/library/app/manifests/0").await.status, 200, "evicted images can be pulled again");
}

/// An image with very many packages has evidence that can be made again, and must not evict the content of others.
#[tokio::test]
async fn large_evidence_goes_before_content() {
    use sqlx::Connection as _;
    let registry = TestRegistry::start().await;
    let image = multi("usual");
    registry.push("library/app", Some("1"), &image);
    let made = TestGate::new(&registry, crate::harness::ALLOW_ALL).with("[cache]\nmax_database = \"1MiB\"");
    let gate = made.start().await;
    let (layer, bytes) = image.blobs.last().expect("a layer");
    for manifest in image.manifests.iter().map(|manifest| manifest.digest.to_string()).chain(["1".to_owned()]) {
        assert_eq!(gate.get(&format!("/library/app/manifests/{manifest}")).await.status, 200);
    }
    assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.body, bytes);
    let made = gate.stop().await;
    let database = || sqlx::sqlite::SqliteConnectOptions::new().filename(made.path().join("state/pullgate.db"));
    let mut writer = sqlx::SqliteConnection::connect_with(&database()).await.expect("a database");
    let insert =
        sqlx::query("INSERT INTO evidence (topic, subject, value, observed_at) VALUES ('layer-2', ?1, ?2, ?3)");
    let now = pullgate::runtime::Clock::system().now().as_millisecond();
    let insert = insert.bind(format!("{layer} sha256")).bind("x".repeat(2 << 20)).bind(now);
    insert.execute(&mut writer).await.expect("a row");
    writer.close().await.expect("it is written");

    let gate = made.start().await;
    let collected = pullgate(&gate, &["cache", "gc"]).await;
    assert!(collected.status.success(), "{}", text(&collected));
    registry.listening.stop().await;
    assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.body, bytes, "content stays");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(gate.file("state/pullgate.db")).read_only(true);
    let mut reader = sqlx::SqliteConnection::connect_with(&options).await.expect("a database");
    let count = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM evidence WHERE topic = 'layer-2'");
    assert_eq!(count.fetch_one(&mut reader).await.expect("a count"), 0, "evidence goes");
}

/// After a crash, files may have no rows. A manifest is known by its bytes, and keeps the blobs that it names.
#[tokio::test]
async fn files_without_rows_are_recorded_by_their_content() {
    use sqlx::Connection as _;
    let registry = TestRegistry::start().await;
    let image = simple("without rows");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, crate::harness::ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    for (blob, bytes) in &image.blobs {
        assert_eq!(gate.get(&format!("/library/app/blobs/{blob}")).await.body, bytes);
    }
    let made = gate.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(made.path().join("state/pullgate.db"));
    let mut database = sqlx::SqliteConnection::connect_with(&options).await.expect("a database");
    for table in ["contents", "content_parts", "manifests", "members", "tags", "tag_history", "links"] {
        let delete = sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}")));
        delete.execute(&mut database).await.expect("no rows");
    }
    let gate = made.start().await;
    let found = async {
        loop {
            let count = "SELECT COUNT(*), SUM(is_manifest), (SELECT COUNT(*) FROM content_parts) FROM contents";
            let found: (i64, Option<i64>, i64) = sqlx::query_as(count).fetch_one(&mut database).await.expect("counts");
            if found.0 == 1 + image.blobs.len() as i64 {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (_, manifests, parts) = tokio::time::timeout(std::time::Duration::from_secs(20), found).await.expect("rows");
    assert_eq!((manifests, parts), (Some(1), image.blobs.len() as i64));
    drop(gate);
}

#[tokio::test]
async fn layers_of_admitted_images_are_served_after_a_restart() {
    let registry = TestRegistry::start().await;
    let image = multi("restart");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, crate::harness::ALLOW_ALL).start().await;
    for path in std::iter::once("1".to_owned()).chain(image.manifests.iter().map(|m| m.digest.to_string())) {
        assert_eq!(gate.get(&format!("/library/app/manifests/{path}")).await.status, 200);
    }
    let gate = gate.stop().await.start().await;
    let (layer, bytes) = image.blobs.last().expect("a layer");
    assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.body, bytes);
}

/// Collects everything below that is not a directory with mode 0700 or a file or socket with mode 0600.
fn open_to_others(path: &Path, found: &mut Vec<String>) {
    let metadata = fs::symlink_metadata(path).expect("metadata");
    let mode = metadata.permissions().mode() & 0o777;
    if mode != if metadata.is_dir() { 0o700 } else { 0o600 } {
        found.push(format!("{} {mode:o}", path.display()));
    }
    if metadata.is_dir() {
        fs::read_dir(path).expect("a folder").for_each(|entry| open_to_others(&entry.expect("an entry").path(), found));
    }
}

#[tokio::test]
async fn state_is_private_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let registry = TestRegistry::start().await;
        let image = simple("private");
        registry.push("library/app", Some("1"), &image);
        let made = TestGate::new(&registry, crate::harness::ALLOW_ALL).with("[audit]\nmax_file_size = \"1KiB\"");
        // An existing directory and database of an earlier version lose the permissions of other users.
        let state = made.path().join("state");
        fs::create_dir(&state).expect("a folder");
        fs::create_dir(state.join("blobs")).expect("a folder");
        for folder in [state.join("blobs"), state.clone()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        fs::write(state.join("audit.jsonl.1"), "{}").expect("a file");
        fs::set_permissions(state.join("audit.jsonl.1"), fs::Permissions::from_mode(0o644)).expect("a mode");
        let program = crate::program::Program::start_with_umask(&made, umask).await;
        for _ in 0..10 {
            assert_eq!(program.get("/library/app/manifests/1").await.status, 200);
        }
        for (blob, _) in &image.blobs {
            assert_eq!(program.get(&format!("/library/app/blobs/{blob}")).await.status, 200);
        }
        let mut found = Vec::new();
        open_to_others(&state, &mut found);
        assert!(found.is_empty(), "umask {umask}: {found:?}");
        assert!(program.stop().await.success());
        found.clear();
        open_to_others(&state, &mut found);
        assert!(found.is_empty() && state.join("audit.jsonl.2").exists(), "umask {umask}: {found:?}");
    }
}

#[test]
fn external_text_cannot_control_a_terminal() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    let said = program.args(["images", "--server", "unix:/nowhere/\u{1b}]0;x\u{7}"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.contains('\u{1b}') && said.contains("\\u{1b}"), "{said:?}");
}
