//! Changes of exemptions: recorded before they are made, and all of them at once.

use super::*;

/// A required record is written before the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_cannot_be_recorded_is_not_made() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "unrecorded").await;
    let gate = made.admin_token(TOKEN).start().await;
    let kept = add(&gate, &["--scope", "birds", "--issue-type", "cve", "--issue-id", "CVE-2024-1"]).await;
    let id = kept["id"].as_str().expect("an id").to_owned();
    let made = gate.stop().await.with("[audit]\nfile = \"/dev/full\"\nrequired = true");
    let gate = made.start().await;
    let issue = ["exemption", "add", "--scope", "birds", "--issue-type", "cve", "--issue-id", "CVE-2024-2"];
    for words in [&issue[..], &["exemption", "rm", &id]] {
        let refused = pullgate(&gate, words).await;
        assert!(!refused.status.success(), "{words:?}: {}", text(&refused));
        assert!(text(&refused).contains("cannot be recorded in the audit file"), "{words:?}: {}", text(&refused));
    }
    assert_eq!(delete_all(&gate).await.status, 503);
    let ids = |listed: &[Value]| listed.iter().map(|record| record["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&list(&gate, &[]).await), [json!(id)], "nothing was added or removed");
    let gate = gate.stop().await.start().await;
    assert_eq!(ids(&list(&gate, &[]).await), [json!(id)], "after a restart, too");
}

/// IBM's call to remove all exemptions of the account.
async fn delete_all(gate: &Gate) -> Answer {
    let authorization = format!("Bearer {TOKEN}");
    let url = gate.admin_url("/va/api/v4/exemptions/deleteAll");
    soon(request("POST", &url, &[("authorization", &authorization)])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_exemptions_of_commands_are_removed_at_once() {
    let registry = TestRegistry::start().await;
    let (made, image) = with_image(&registry, "all").await;
    let document = "---\napiVersion: pullgate.io/v1\nkind: Exemption\nmetadata: {name: kept}\nspec: {scope: fish, issueType: cve, \
                    issueId: CVE-2024-9}\n";
    let gate = made.admin_token(TOKEN).start().await;
    gate.set_policy(&format!("{}{document}", policy(SCANNED)));
    let digest = format!("birds/bluebird@{}", image.root);
    for scope in ["*", "birds", "birds/bluebird:v1", &digest] {
        add(&gate, &["--scope", scope, "--issue-type", "cve", "--issue-id", "CVE-2024-1"]).await;
    }
    assert_eq!(status(&gate).await, 200);
    let removed = delete_all(&gate).await;
    assert_eq!((removed.status, removed.json()), (200, json!({"number_of_exemptions_deleted": 4})));
    assert_eq!(status(&gate).await, 403, "the next pull knows");
    let documents = |listed: &[Value]| listed.iter().map(|record| record["document"].clone()).collect::<Vec<_>>();
    assert_eq!(documents(&list(&gate, &[]).await), [json!("Exemption/kept")], "documents stay");
    let again = delete_all(&gate).await;
    assert_eq!(again.json(), json!({"number_of_exemptions_deleted": 0}));
    let (made, records) = gate.stop_and_read_audit().await;
    let removals = records.iter().filter(|record| record["decision"] == "remove-exemption").count();
    assert_eq!(removals, 4, "each is recorded");
    assert_eq!(list(&made.start().await, &[]).await.len(), 1, "after a restart, too");
}

/// A change of exemptions is recorded with its caller before it is made, and is not made if it cannot be recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_recorded_for_the_audit() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "audited").await;
    let gate = made.start().await;
    let issue = ["--scope", "birds", "--issue-type", "cve", "--issue-id", "CVE-2024-1", "--reason", "unreachable"];
    let added = add(&gate, &issue).await;
    let id = added["id"].as_str().expect("an id");
    let removed = pullgate(&gate, &["exemption", "rm", id]).await;
    assert!(removed.status.success(), "{}", text(&removed));
    let (_, records) = gate.stop_and_read_audit().await;
    for decision in ["add-exemption", "remove-exemption"] {
        let record = records.iter().find(|record| record["decision"] == decision);
        let record = record.unwrap_or_else(|| panic!("{decision}: {records:?}"));
        assert_eq!((&record["endpoint"], &record["image"]), (&json!("exemptions"), &json!("birds")), "{record}");
        assert!(record["client"].as_str().expect("a caller").starts_with("admin socket, user"), "{record}");
        let reasons = record["reasons"].to_string();
        assert!(reasons.contains("CVE-2024-1") && reasons.contains("unreachable"), "{reasons}");
    }
}
