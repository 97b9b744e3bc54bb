//! Events about the advisory databases.

use jiff::Timestamp;
use serde::Serialize;

use super::Livescan;
use crate::audit::{RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::events::EventKind;
use crate::gate::operator::OperatorAct;
use crate::runtime::Tasks;
use crate::store::NewEvent;
use crate::va::DatabaseNews;

/// The subject of these events.
const SUBJECT: &str = "advisories";

/// The data of the event `database.updated`.
#[derive(Serialize)]
struct UpdatedDatabases<'a> {
    from: &'a str,
    to: &'a str,
    sources: Vec<UpdatedSource<'a>>,
}

#[derive(Serialize)]
struct UpdatedSource<'a> {
    name: &'a str,
    built: Timestamp,
}

/// The data of the event `database.failed`.
#[derive(Serialize)]
struct FailedDatabases<'a> {
    /// `use` or `update`.
    part: &'static str,
    problem: &'a str,
    /// The generation that is in use nevertheless.
    databases: &'a str,
}

impl Livescan {
    /// Follows the databases until shutdown. Databases that are in use when the process starts are not reported.
    pub(super) async fn follow_databases(&self, tasks: &Tasks) {
        let databases = self.va.scanner().databases();
        let mut news = databases.news();
        tokio::select! {
            () = tasks.stopping() => return,
            () = databases.opened() => {}
        }
        let mut before = news.borrow_and_update().clone();
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                changed = news.changed() => if changed.is_err() { return },
            }
            let now = news.borrow_and_update().clone();
            if before.generation != now.generation {
                self.note_databases(&before, &now).await;
            }
            let events = self.database_events(&before, &now);
            if !events.is_empty() {
                self.records.queue(&events).await;
            }
            before = now;
        }
    }

    /// Records in the log and in the audit file that the databases changed: they decide which images are admitted, and
    /// anyone who can write the state directory can install them.
    async fn note_databases(&self, before: &DatabaseNews, now: &DatabaseNews) {
        let names = now.sources.iter().map(|(name, built)| format!("{name} of {built}"));
        let names: Vec<String> = names.collect();
        let (databases, was) = (names.join(", "), &before.generation);
        tracing::info!(databases, generation = now.generation, was, "advisory databases changed");
        let act = OperatorAct {
            endpoint: RecordedEndpoint::Advisories,
            method: RecordedMethod::NoRequest,
            decision: RecordedDecision::UseAdvisories,
            image: String::new(),
            reasons: names,
        };
        // They are in use already, so nothing depends on whether it can be recorded.
        let _ = act.record(&self.audit, "", self.clock.now()).await;
    }

    fn database_events(&self, before: &DatabaseNews, now: &DatabaseNews) -> Vec<NewEvent> {
        let (at, mut events) = (self.clock.now(), Vec::new());
        if before.generation != now.generation {
            let sources = now.sources.iter().map(|(name, built)| UpdatedSource { name, built: *built }).collect();
            let data = UpdatedDatabases { from: &before.generation, to: &now.generation, sources };
            events.extend(self.records.events.of(EventKind::DatabaseUpdated, SUBJECT, at, &data));
        }
        let problems =
            [("use", &before.problem, &now.problem), ("update", &before.update_problem, &now.update_problem)];
        for (part, earlier, problem) in problems {
            if let Some(problem) = problem.as_ref().filter(|problem| earlier.as_ref() != Some(problem)) {
                let data = FailedDatabases { part, problem, databases: &now.generation };
                events.extend(self.records.events.of(EventKind::DatabaseFailed, SUBJECT, at, &data));
            }
        }
        events
    }
}
