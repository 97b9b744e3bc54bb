//! Lists verdicts for people: changed ones, and images that would be denied now.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use super::{COLUMNS, StoredVerdict, VerdictStore};
use crate::store::{StoreError, json, time_of};

/// The maximum number of verdicts in one answer.
const MAX_LISTED: usize = 10_000;

/// Which verdicts are listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VerdictFilter {
    /// Those that changed since this time.
    ChangedSince(Timestamp),
    /// Those of images that were pulled since this time and would be denied now.
    DeniedPulledSince(Timestamp),
}

/// A client that pulled an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PullingClient {
    /// Its address.
    pub address: String,
    /// The common name in its certificate.
    pub name: Option<String>,
    /// When its last pull was recorded.
    pub pulled_at: Timestamp,
}

/// A list of verdicts, the last pulled first, with the clients that pulled each, the last one first.
#[derive(Clone, Debug, Default)]
pub struct VerdictList {
    /// The verdicts.
    pub verdicts: Vec<(StoredVerdict, Vec<PullingClient>)>,
    /// Whether there are more.
    pub is_cut: bool,
}

impl VerdictStore {
    /// Lists verdicts.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn list(&self, filter: VerdictFilter) -> Result<VerdictList, StoreError> {
        let (condition, since) = match filter {
            VerdictFilter::ChangedSince(since) => ("changed_at >= ?1", since),
            VerdictFilter::DeniedPulledSince(since) => ("decision <> 'admit' AND pulled_at >= ?1", since),
        };
        let sql = format!("SELECT {COLUMNS} FROM verdicts WHERE {condition} ORDER BY pulled_at DESC, id DESC LIMIT ?2");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(since.as_millisecond()).bind(MAX_LISTED as i64 + 1);
        let rows = query.fetch_all(self.readers()).await?;
        let mut verdicts: Vec<StoredVerdict> = rows.iter().map(StoredVerdict::of_row).collect::<Result<_, _>>()?;
        let is_cut = verdicts.len() > MAX_LISTED;
        verdicts.truncate(MAX_LISTED);
        let mut clients = self.clients(&verdicts).await?;
        let with_clients = |verdict: StoredVerdict| {
            let clients = clients.remove(&verdict.id).unwrap_or_default();
            (verdict, clients)
        };
        Ok(VerdictList { verdicts: verdicts.into_iter().map(with_clients).collect(), is_cut })
    }

    /// The clients of these verdicts, by the number of the verdict.
    async fn clients(&self, verdicts: &[StoredVerdict]) -> Result<HashMap<i64, Vec<PullingClient>>, StoreError> {
        let ids = json(&verdicts.iter().map(|verdict| verdict.id).collect::<Vec<_>>());
        let sql = "SELECT verdict, address, name, pulled_at FROM verdict_clients \
                   WHERE verdict IN (SELECT value FROM json_each(?1)) ORDER BY pulled_at DESC, address";
        let mut clients: HashMap<i64, Vec<PullingClient>> = HashMap::new();
        for row in sqlx::query(sql).bind(ids).fetch_all(self.readers()).await? {
            let name: String = row.try_get(2)?;
            clients.entry(row.try_get(0)?).or_default().push(PullingClient {
                address: row.try_get(1)?,
                name: (!name.is_empty()).then_some(name),
                pulled_at: time_of(row.try_get(3)?),
            });
        }
        Ok(clients)
    }
}
