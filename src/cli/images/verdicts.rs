//! `pullgate images --changed` and `--would-deny`: images that were admitted and are judged otherwise now.

use std::time::Duration;

use super::ImagesArgs;
use crate::api::{ClientAnswer, ListedChange, OutcomeAnswer, VerdictAnswer, VerdictsAnswer, VerdictsRequest, path};
use crate::cli::output::{counted, print_json};
use crate::cli::table::table;
use crate::cli::{Exit, Output, fail, remote};
use crate::oci::ImageReference;

/// How many clients of an image are printed, unless everything is.
const FEW: usize = 3;

/// Lists these verdicts. Exits with 2 if anything that was admitted would be denied now.
pub(super) fn run(args: &ImagesArgs, which: ListedChange, since: Duration) -> Exit {
    let request = VerdictsRequest { which, since_seconds: since.as_secs() };
    let path = format!("{}?{}", path::VERDICTS, request.to_query());
    let mut answer: VerdictsAnswer = match remote::get(&args.gate, &path) {
        Ok(answer) => answer,
        Err(error) => return fail(error),
    };
    if let Some(restrict) = &args.restrict {
        let name = |verdict: &VerdictAnswer| verdict.repository.parse::<ImageReference>().ok();
        answer.verdicts.retain(|verdict| name(verdict).is_some_and(|image| image.name.is_selected_by(restrict)));
    }
    match (args.output, which) {
        (Output::Json, _) => print_json(&answer),
        (Output::Table, ListedChange::Changed) => print!("{}", changes(&answer.verdicts, args.no_trunc)),
        (Output::Table, ListedChange::WouldDeny) => print!("{}", denials(&answer.verdicts, args.no_trunc)),
    }
    if answer.more {
        eprintln!("The list is not complete; choose a shorter --since.");
    }
    if answer.outdated > 0 {
        let verdicts = counted(answer.outdated, "verdict is", "verdicts are");
        eprintln!("{verdicts} still being judged again; repeat the command later.");
    }
    if which == ListedChange::WouldDeny && !answer.verdicts.is_empty() { Exit::Denied } else { Exit::Ok }
}

fn changes(verdicts: &[VerdictAnswer], no_trunc: bool) -> String {
    let header = ["REPOSITORY", "TAG", "DIGEST", "SCOPE", "FROM", "TO", "CHANGED", "WHY"];
    let rows = verdicts.iter().map(|verdict| {
        let [repository, tag, digest, namespace] = name(verdict, no_trunc);
        let before = verdict.before.as_ref();
        let from = before.map_or("-".into(), |before: &OutcomeAnswer| before.decision.clone());
        let changed = verdict.changed.map_or("-".into(), |at| at.to_string());
        [repository, tag, digest, namespace, from, verdict.now.decision.clone(), changed, why(verdict)]
    });
    table(header, rows)
}

/// The new reason, or, for a released image, the reason that no longer holds; and its cause.
fn why(verdict: &VerdictAnswer) -> String {
    let before = verdict.before.as_ref();
    let cause = match (verdict.cause.as_deref(), before) {
        (Some("databases"), Some(before)) => {
            let after = verdict.changed_databases.as_ref().unwrap_or(&verdict.now.databases);
            format!("advisory databases {} -> {}", generation(&before.databases), generation(after))
        }
        (Some("rules"), _) => "the rules, exemptions or report files changed".into(),
        _ => "other evidence, or the time".into(),
    };
    let reason = match (&*verdict.now.reason, before) {
        ("", Some(before)) if !before.reason.is_empty() => format!("no longer: {}", short(&before.reason)),
        ("", _) => String::new(),
        (reason, _) => short(reason).to_owned(),
    };
    if reason.is_empty() { cause } else { format!("{reason} ({cause})") }
}

fn generation(databases: &str) -> &str {
    if databases.is_empty() { "none" } else { databases }
}

fn denials(verdicts: &[VerdictAnswer], no_trunc: bool) -> String {
    let header = ["REPOSITORY", "TAG", "DIGEST", "SCOPE", "LAST PULLED", "CLIENTS", "REASON"];
    let rows = verdicts.iter().map(|verdict| {
        let [repository, tag, digest, namespace] = name(verdict, no_trunc);
        let reason = short(&verdict.now.reason).to_owned();
        let clients = clients(&verdict.clients, no_trunc);
        [repository, tag, digest, namespace, verdict.last_pulled.to_string(), clients, reason]
    });
    table(header, rows)
}

fn name(verdict: &VerdictAnswer, no_trunc: bool) -> [String; 4] {
    let digest = if no_trunc { verdict.digest.to_string() } else { verdict.digest.short() };
    let dash = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    [verdict.repository.clone(), dash(verdict.tag.as_deref()), digest, dash(Some(&verdict.namespace))]
}

fn clients(clients: &[ClientAnswer], all: bool) -> String {
    let shown = if all { clients.len() } else { FEW };
    let one = |client: &ClientAnswer| match &client.name {
        Some(name) => format!("{name} ({})", client.address),
        None => client.address.clone(),
    };
    let mut text = clients.iter().take(shown).map(one).collect::<Vec<_>>().join(", ");
    match clients.len().saturating_sub(shown) {
        0 if text.is_empty() => "-".into(),
        0 => text,
        more => {
            text.push_str(&format!(", +{more}"));
            text
        }
    }
}

/// A denial without its subject, which has separate columns: `SUBJECT denied by DOCUMENT "ENTRY": REASON`.
fn short(reason: &str) -> &str {
    reason.split_once(" denied by ").map_or(reason, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(decision: &str, reason: &str, databases: &str) -> OutcomeAnswer {
        let text = |text: &str| text.to_owned();
        OutcomeAnswer { decision: text(decision), reason: text(reason), databases: text(databases), rules: "r".into() }
    }

    #[test]
    fn changes_and_denials_are_listed_with_their_reasons_and_clients() {
        let reason = "a.test/app:1 denied by P/default \"*\": va: 1 issue not exempt (CVE-2026-1 high)";
        let client = |address: &str, name: Option<&str>| ClientAnswer {
            address: address.into(),
            name: name.map(str::to_owned),
            last_pulled: jiff::Timestamp::UNIX_EPOCH,
        };
        let mut verdict = VerdictAnswer {
            repository: "a.test/app".into(),
            tag: Some("1".into()),
            digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            kind: "image".into(),
            namespace: String::new(),
            last_pulled: jiff::Timestamp::UNIX_EPOCH,
            now: outcome("deny", reason, "g3"),
            judged: jiff::Timestamp::UNIX_EPOCH,
            doubt: None,
            before: Some(outcome("admit", "", "")),
            changed: Some(jiff::Timestamp::UNIX_EPOCH),
            cause: Some("databases".into()),
            changed_databases: Some("g2".into()),
            clients: ["1", "2", "3", "4"].map(|address| client(address, (address == "1").then_some("node"))).into(),
        };
        let text = changes(std::slice::from_ref(&verdict), false);
        for part in ["aaaaaaaaaaaa   -", "admit   deny", "CVE-2026-1 high) (advisory databases none -> g2)"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = denials(std::slice::from_ref(&verdict), false);
        assert!(text.contains("node (1), 2, 3, +1   P/default \"*\": va: 1 issue"), "{text}");
        assert!(denials(std::slice::from_ref(&verdict), true).contains("node (1), 2, 3, 4"));
        (verdict.now, verdict.before) = (outcome("admit", "", "g2"), Some(outcome("deny", reason, "g2")));
        verdict.cause = Some("rules".into());
        let text = changes(&[verdict], false);
        assert!(
            text.contains("no longer: P/default \"*\": va: 1 issue")
                && text.contains("(the rules, exemptions or report files changed)"),
            "{text}"
        );
    }
}
