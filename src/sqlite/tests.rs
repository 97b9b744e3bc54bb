use std::os::unix::fs::FileExt as _;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::*;

/// A database that SQLite wrote: 3,000 rows with keys of 20 bytes, some of which have texts of several pages.
async fn database() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let tables = "CREATE TABLE things(name TEXT, key BLOB); CREATE UNIQUE INDEX by_key ON things(key)";
    sqlx::raw_sql(tables).execute(&mut connection).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
    for number in 0..3000_u32 {
        let insert = sqlx::query("INSERT INTO things(rowid, name, key) VALUES (?, ?, ?)").bind(i64::from(number) * 2);
        insert.bind(name(number)).bind(&key(number)[..]).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap();
    std::fs::read(path).unwrap()
}

fn name(number: u32) -> String {
    "x".repeat(if number.is_multiple_of(500) { 20_000 } else { 10 })
}

/// Keys in another order than the rows.
fn key(number: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    key
}

trait ReadPart: Fn(u64, usize) -> Result<Vec<u8>, String> {}
impl<F: Fn(u64, usize) -> Result<Vec<u8>, String>> ReadPart for F {}

fn open(bytes: &[u8]) -> Result<SqliteFile<impl ReadPart + '_>, String> {
    SqliteFile::open(bytes.len() as u64, |at, length| {
        let at = usize::try_from(at).unwrap();
        Ok(bytes.get(at..at + length).ok_or("outside")?.to_vec())
    })
}

#[tokio::test]
async fn rows_are_found_by_number_and_by_index() {
    let bytes = database().await;
    let database = open(&bytes).unwrap();
    let (table, index) = (database.root("table", "things").unwrap(), database.root("index", "by_key").unwrap());
    let mut numbers = 0;
    database
        .rows(table, &mut |row| {
            let expected = (name(numbers), key(numbers));
            assert_eq!(row, [SqliteValue::Text(expected.0.as_bytes()), SqliteValue::Blob(&expected.1)]);
            numbers += 1;
            Ok(())
        })
        .unwrap();
    let mut entries = Vec::new();
    database
        .entries(index, &mut |entry| {
            let [SqliteValue::Blob(key), SqliteValue::Integer(row)] = entry else { panic!("{entry:?}") };
            entries.push((key.to_vec(), *row));
            Ok(())
        })
        .unwrap();
    entries.sort();
    entries.dedup();
    assert_eq!((numbers, entries.len()), (3000, 3000));
    for number in 0..3000 {
        assert_eq!(database.find(index, &key(number)), Ok(Some(i64::from(number) * 2)));
        let found = database.row(table, i64::from(number) * 2, |row| Ok(row[1] == SqliteValue::Blob(&key(number))));
        assert_eq!(found, Ok(Some(true)), "{number}");
    }
    assert_eq!(database.find(index, &[0xff; 20]), Ok(None));
    for missing in [1, -1, 5999, 6000] {
        assert_eq!(database.row(table, missing, |_| Ok(())), Ok(None), "{missing}");
    }
    assert!(database.root("table", "by_key").is_err(), "an index is not a table");
}

#[tokio::test]
async fn damage_is_only_an_error() {
    let bytes = database().await;
    assert!(open(b"SQLite format 3").is_err() && open(&[0; 200]).is_err());
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        for _ in 0..random.usize(1..40) {
            // Mostly in the headers of pages, which lead to others.
            let page = random.usize(..damaged.len() / 4096) * 4096;
            let most = if random.bool() { 40 } else { 4096 };
            let at = page + random.usize(..most);
            damaged[at] = random.u8(..);
        }
        let Ok(database) = open(&damaged) else { continue };
        let (table, index) = (database.root("table", "things"), database.root("index", "by_key"));
        if let (Ok(table), Ok(index)) = (table, index) {
            let _ = database.rows(table, &mut |_| Ok(()));
            let _ = database.entries(index, &mut |_| Ok(()));
            for number in (0..3000).step_by(100) {
                let _ = database.find(index, &key(number));
                let _ = database.row(table, i64::from(number) * 2, |_| Ok(()));
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.db");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let read = |at, length| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).map_err(|error| error.to_string()).map(|()| bytes)
    };
    let cut = SqliteFile::open(bytes.len() as u64 / 2, read).unwrap();
    let table = cut.root("table", "things").unwrap();
    assert!(cut.rows(table, &mut |_| Ok(())).is_err());
}
