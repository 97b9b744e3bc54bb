//! Writes small databases of Java archives, as Trivy does.

use std::fs;
use std::path::Path;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::super::trivy_db::METADATA;
use super::{ArchiveChecksum, DATABASE};

/// The SHA-1 of a text, as that of an archive.
pub(in super::super) fn sha1(text: &str) -> ArchiveChecksum {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::from_value(hex.into()).unwrap()
}

/// How many further archives the database lists, without the checksum of any archive.
pub(in super::super) const WITHOUT_CHECKSUM: u64 = 4;

/// Writes the database and its metadata, with the statements of trivy-java-db (`pkg/db/db.go`). Each archive is group,
/// name, version, and the text that its checksum is of.
pub(in super::super) fn write(directory: &Path, built: &str, archives: &[(&str, &str, &str, &str)]) {
    fs::create_dir_all(directory).unwrap();
    let metadata = format!("{{\"Version\":1,\"NextUpdate\":\"{built}\",\"UpdatedAt\":\"{built}\"}}");
    fs::write(directory.join(METADATA), metadata).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(directory.join(DATABASE)).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        let tables = "
            PRAGMA foreign_keys=true;
            CREATE TABLE artifacts(id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);
            CREATE TABLE indices(artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT, foreign key (artifact_id) references artifacts(id));
            CREATE UNIQUE INDEX artifacts_idx ON artifacts(artifact_id, group_id);
            CREATE INDEX indices_artifact_idx ON indices(artifact_id);
            CREATE UNIQUE INDEX indices_sha1_idx ON indices(sha1);";
        sqlx::raw_sql(tables).execute(&mut connection).await.unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
        for (group, name, version, text) in archives {
            let artifact = "INSERT OR IGNORE INTO artifacts(group_id, artifact_id) VALUES (?, ?)";
            sqlx::query(artifact).bind(group).bind(name).execute(&mut connection).await.unwrap();
            let archive = "INSERT INTO indices(artifact_id, version, sha1, archive_type)
                VALUES ((SELECT id FROM artifacts WHERE group_id = ? AND artifact_id = ?), ?, ?, 'jar')
                ON CONFLICT(sha1) DO NOTHING";
            let archive = sqlx::query(archive).bind(group).bind(name).bind(version);
            archive.bind(sha1(text).as_bytes()).execute(&mut connection).await.unwrap();
        }
        for checksum in ["x'0102'", "x''", "NULL", "NULL"] {
            let other = format!("INSERT INTO indices VALUES ((SELECT MIN(id) FROM artifacts), '', {checksum}, 'jar')");
            sqlx::raw_sql(sqlx::AssertSqlSafe(other)).execute(&mut connection).await.unwrap();
        }
        sqlx::raw_sql("COMMIT; VACUUM").execute(&mut connection).await.unwrap();
    });
}
