//! What this gate decided and remembers: the last verdict on each image that it admitted, who pulled it, when it was
//! first seen, and the events that are not delivered yet.
//!
//! All tables are bounded in rows. Nothing here is written while a request waits, except the history of an image whose
//! rule needs it.

mod events;
mod history;
mod listing;
mod pulls;
mod rematch;
mod repository_issues;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

pub use events::{NewEvent, QueuedEvent};
pub use history::{ImageTimes, IssueTimes, NewIssueTimes};
pub use listing::{PullingClient, VerdictFilter, VerdictList};
pub use pulls::{AdmittedPull, RequestedImage};
pub use rematch::{Rejudged, VerdictPage};
pub use repository_issues::RepositoryNoting;

use super::database::Database;
use super::readers::ReadConnections;
use super::{StoreError, digest_of, time_of};
use crate::oci::{Digest, ImageName, Tag};
use crate::policy::Kind;
use crate::scope::Scope;

/// The maximum number of verdicts that are kept. The verdicts of the least recently pulled images are forgotten first.
const MAX_VERDICTS: i64 = 100_000;

/// The verdicts of this gate. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VerdictStore {
    database: Database,
}

/// A decision as it is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoredDecision {
    /// The image is served.
    Admit,
    /// The image is not served.
    Deny,
    /// The image is served only because denials are not enforced.
    WouldDeny,
}

impl StoredDecision {
    /// The name in JSON, in the database and in audit records: `admit`, `deny`, `would-deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Deny => "deny",
            Self::WouldDeny => "would-deny",
        }
    }
}

impl fmt::Display for StoredDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StoredDecision {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text {
            "admit" => Ok(Self::Admit),
            "deny" => Ok(Self::Deny),
            "would-deny" => Ok(Self::WouldDeny),
            _ => Err(StoreError::Row("an unknown decision")),
        }
    }
}

/// The basis of a decision: the advisory databases and the rules. Two decisions with the same basis about the
/// same image are the same, unless time has passed or evidence has ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VerdictBasis {
    /// The generation of the advisory databases; empty if there are none.
    pub databases: String,
    /// The fingerprint of everything else: rules, exemptions, the program's version.
    pub rules: String,
}

impl VerdictBasis {
    fn to_text(&self) -> String {
        format!("{} {}", self.databases, self.rules)
    }

    fn of_text(text: &str) -> Self {
        let (databases, rules) = text.split_once(' ').unwrap_or_default();
        Self { databases: databases.to_owned(), rules: rules.to_owned() }
    }
}

/// A decision with its reason and what it was made from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerdictOutcome {
    /// The decision.
    pub decision: StoredDecision,
    /// The denial as clients receive it, without the name of the gate; empty for an admission.
    pub reason: String,
    /// What the decision was made from.
    pub basis: VerdictBasis,
}

/// The last verdict on one image in one repository for one scope.
///
/// This is the key because each part changes the answer: the digest is what is judged, the repository and the scope
/// select the rules, and signatures count for one repository only. The tag is not part of it: it is the last one by
/// which the scope pulled the image, and the image is judged under the rules for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredVerdict {
    /// The number of the row.
    pub id: i64,
    /// Upstream and repository.
    pub name: ImageName,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The scope whose rules apply.
    pub scope: Scope,
    /// The tag by which it was pulled last; `None` if it was only pulled by its digest.
    pub tag: Option<Tag>,
    /// What the manifest is.
    pub kind: Kind,
    /// When the last pull of it was recorded.
    pub pulled_at: Timestamp,
    /// The last decision.
    pub outcome: VerdictOutcome,
    /// When it was made.
    pub decided_at: Timestamp,
    /// When the decision ends by itself.
    pub until: Option<Timestamp>,
    /// Why the image could not be judged the last time, if it could not: the decision is an older one then.
    pub doubt: Option<String>,
    /// The decision before the last change, and when it changed.
    pub change: Option<(VerdictOutcome, Timestamp)>,
    /// The part of the basis whose change changed the judgement. `None` if it never changed.
    pub changed_basis: Option<VerdictBasis>,
}

/// The columns of a [`StoredVerdict`], in the order in which [`StoredVerdict::of_row`] reads them.
const COLUMNS: &str = "id, host, repository, digest, scope, tag, kind, pulled_at, decision, reason, basis, decided_at, doubt, \
     old_decision, old_reason, old_basis, changed_at, changed_basis, valid_until";

impl StoredVerdict {
    fn of_row(row: &SqliteRow) -> Result<Self, StoreError> {
        let invalid = |_| StoreError::Row("an invalid name");
        let text = |column: usize| row.try_get::<String, _>(column);
        let tag = text(5)?;
        let change = match (row.try_get::<Option<String>, _>(13)?, row.try_get::<Option<i64>, _>(16)?) {
            (Some(decision), Some(at)) => Some((outcome(&decision, text(14)?, &text(15)?)?, time_of(at))),
            _ => None,
        };
        let (basis, decided_at) = (text(10)?, time_of(row.try_get(11)?));
        // A row that is just being changed does not have its own column yet, and neither do those of earlier versions.
        // A pending re-judgement replaces the basis and keeps the time; a row that is just being changed has none.
        let doubt: Option<String> = row.try_get(12)?;
        let is_latest = doubt.is_none() && change.as_ref().is_some_and(|(_, at)| *at == decided_at);
        let kept: Option<String> = row.try_get(17)?;
        let changed = kept.filter(|_| !is_latest).unwrap_or_else(|| basis.clone());
        let changed_basis = change.is_some().then(|| VerdictBasis::of_text(&changed));
        Ok(Self {
            id: row.try_get(0)?,
            name: ImageName {
                host: text(1)?.parse().map_err(invalid)?,
                repository: text(2)?.parse().map_err(invalid)?,
            },
            digest: digest_of(&text(3)?)?,
            scope: text(4)?.parse().map_err(|_| StoreError::Row("an invalid scope"))?,
            tag: (!tag.is_empty()).then(|| tag.parse()).transpose().map_err(invalid)?,
            kind: kind_of(&text(6)?)?,
            pulled_at: time_of(row.try_get(7)?),
            outcome: outcome(&text(8)?, text(9)?, &basis)?,
            decided_at,
            until: row.try_get::<Option<i64>, _>(18)?.map(time_of),
            doubt,
            change,
            changed_basis,
        })
    }
}

impl StoredVerdict {
    /// The cause of the last change: `databases`, `rules`, or `other`, such as the time or new signatures.
    pub fn cause(&self) -> Option<&'static str> {
        let (VerdictOutcome { basis, .. }, _) = self.change.as_ref()?;
        let after = self.changed_basis.as_ref()?;
        Some(match () {
            () if basis.databases != after.databases => "databases",
            () if basis.rules != after.rules && !basis.rules.is_empty() && !after.rules.is_empty() => "rules",
            () => "other",
        })
    }
}

fn outcome(decision: &str, reason: String, basis: &str) -> Result<VerdictOutcome, StoreError> {
    Ok(VerdictOutcome { decision: decision.parse()?, reason, basis: VerdictBasis::of_text(basis) })
}

fn kind_of(text: &str) -> Result<Kind, StoreError> {
    let kinds = [Kind::Artifact, Kind::Attachment, Kind::Image, Kind::Index];
    kinds.into_iter().find(|kind| kind.as_str() == text).ok_or(StoreError::Row("an unknown kind"))
}

impl VerdictStore {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    fn readers(&self) -> &ReadConnections {
        &self.database.readers
    }

    /// Forgets the rows beyond each table's limit: the least recently pulled verdicts with their clients, manifests
    /// that no verdict needs, the least recently used histories. Returns how many rows can be added before it must run
    /// again, because counting rows reads whole tables.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn trim(&self) -> Result<u64, StoreError> {
        self.trim_to(MAX_VERDICTS, history::MAX_IMAGES).await
    }

    /// Forgets the oldest events beyond their limit. Returns the number of events that are lost.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn trim_events(&self) -> Result<u64, StoreError> {
        self.trim_events_to(events::MAX_QUEUED).await
    }

    async fn trim_to(&self, verdicts: i64, images: i64) -> Result<u64, StoreError> {
        let limits = [("verdicts", "pulled_at", verdicts), ("image_history", "used_at", images)];
        let limits = limits.into_iter().chain([("checked_admissions", "used_at", images)]);
        let (mut forgets_verdicts, mut room) = (false, i64::MAX);
        for (table, age, limit) in limits.chain([("issue_history", "used_at", images)]) {
            let count = self.trim_table(table, age, limit).await?;
            forgets_verdicts |= table == "verdicts" && count > limit;
            room = room.min(limit - count.min(limit));
        }
        for sql in [
            "DELETE FROM verdict_clients WHERE verdict NOT IN (SELECT id FROM verdicts)",
            "DELETE FROM verdict_manifests WHERE verdict NOT IN (SELECT id FROM verdicts)",
        ]
        .iter()
        .filter(|_| forgets_verdicts)
        {
            sqlx::query(*sql).execute(&self.database.writer).await?;
        }
        Ok(u64::try_from(room).unwrap_or_default())
    }

    async fn trim_events_to(&self, limit: i64) -> Result<u64, StoreError> {
        let surplus = self.trim_table("events", "number", limit).await? - limit;
        Ok(u64::try_from(surplus).unwrap_or_default())
    }

    /// Forgets the oldest rows of a table beyond a limit. Returns how many rows it had before.
    async fn trim_table(&self, table: &str, age: &str, limit: i64) -> Result<i64, StoreError> {
        let count = sqlx::query(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")));
        let count: i64 = count.fetch_one(&self.readers().patient()).await?.try_get(0)?;
        if count > limit {
            let sql = format!(
                "DELETE FROM {table} WHERE {age} <= (SELECT {age} FROM {table} ORDER BY {age} LIMIT 1 OFFSET ?1)"
            );
            sqlx::query(AssertSqlSafe(sql)).bind(count - limit - 1).execute(&self.database.writer).await?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
