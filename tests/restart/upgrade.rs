//! The state of the first schema is used, and that of a newer one is refused.

use super::*;

async fn database(made: &TestGate) -> SqliteConnection {
    let file = made.path().join("state/pullgate.db");
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.expect("a database")
}

/// The state directory with the first schema of the database, after it had served an image by a tag.
async fn first_schema(made: &TestGate, image: &Built) {
    let state = made.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mut old = database(made).await;
    let first = include_str!("../../src/store/migrations/0001_first.sql").into_sql_str();
    let first = Migration::new(1, "first".into(), MigrationType::Simple, first, false);
    Migrator::with_migrations(vec![first]).run(&mut old).await.unwrap();
    let now = Clock::system().now().as_millisecond();
    let (manifest, name) = (image.manifest(), format!("'{HOST}', 'library/app-0'"));
    let mut rows = vec![
        format!("INSERT INTO tags VALUES ({name}, '1', '{}', {now})", manifest.digest),
        format!("INSERT INTO tag_history VALUES ({name}, '{}', '1', {now})", manifest.digest),
        format!(
            "INSERT INTO manifests VALUES ({name}, '{}', '{}', {}, {now}, {now})",
            manifest.digest,
            manifest.media_type,
            manifest.bytes.len()
        ),
    ];
    let mut contents = vec![(manifest.digest, manifest.bytes.to_vec())];
    for (digest, bytes) in &image.blobs {
        rows.push(format!("INSERT INTO members VALUES ({name}, '{}', '{digest}', 0)", manifest.digest));
        rows.push(format!("INSERT INTO links VALUES ({name}, '{digest}', {}, {now})", bytes.len()));
        contents.push((*digest, bytes.to_vec()));
    }
    for row in rows {
        sqlx::raw_sql(sqlx::AssertSqlSafe(row)).execute(&mut old).await.unwrap();
    }
    old.close().await.unwrap();
    for (digest, bytes) in contents {
        let folder = state.join("blobs/sha256").join(&digest.hex()[..2]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(digest.hex()), bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_the_first_schema_is_used_and_that_of_a_newer_one_is_refused() {
    let registry = TestRegistry::start().await;
    let images = push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    first_schema(&made, &images[0]).await;
    registry.listening.stop().await;
    let running = Program::start(&made).await;
    assert_eq!(
        pull(running.registry_url(), 0, &images[0]).await,
        Ok(()),
        "what it knew is served without the registry"
    );
    let mut state = database(&made).await;
    let newest = "SELECT MAX(version) FROM _sqlx_migrations";
    let newest: i64 = sqlx::query_scalar(newest).fetch_one(&mut state).await.unwrap();
    assert!(newest > 1, "the schema is the newest one");
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'newer', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut state).await.unwrap();
    state.close().await.unwrap();
    let says = "written by a newer pullgate (schema 9999); run that version, or give this one its own `state_dir`";
    let refused = Program::refused(&made, "true", &["--take-over"]).await;
    assert!(refused.contains(says), "{refused}");
    assert_eq!(pull(running.registry_url(), 0, &images[0]).await, Ok(()), "the running gate goes on");
    assert!(running.stop().await.success());
    let before = std::fs::read(made.path().join("state/pullgate.db")).unwrap();
    let refused = Program::refused(&made, "true", &[]).await;
    assert!(refused.contains(says), "{refused}");
    assert!(std::fs::read(made.path().join("state/pullgate.db")).unwrap() == before, "nothing is changed");
}
