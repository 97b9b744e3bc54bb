//! `pullgate va IMAGE`: the vulnerability report.

use super::{Exit, GateArgs, Output};
use crate::api::{AssessmentAnswer, CheckRequest, IssueAnswer};
use crate::policy::AffectedPackage;
use crate::runtime::printable;

/// Arguments of `va`.
#[derive(Debug, clap::Args)]
pub(super) struct VaArgs {
    /// The image, such as docker.io/library/nginx:1.27 or a short name.
    image: String,
    /// The Kubernetes namespace, or other scope, whose rules apply.
    #[arg(long, short, default_value = "", value_name = "NAMESPACE", hide_default_value = true)]
    namespace: String,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &VaArgs) -> Exit {
    let request = CheckRequest { image: args.image.clone(), namespace: args.namespace.clone() };
    let answer = match super::check::check(&args.gate, &request, false) {
        Ok(answer) => answer,
        Err(error) => return super::fail(error),
    };
    let assessments: Vec<_> = answer.rules.iter().flat_map(|rule| &rule.assessments).collect();
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&assessments).unwrap_or_default()),
        Output::Table => print!("{}", describe(&answer.image, &assessments)),
    }
    let blocks = assessments.iter().flat_map(|assessment| &assessment.issues).any(|found| found.blocks);
    if blocks { Exit::Denied } else { Exit::Ok }
}

/// The assessments as text, with a table for each.
fn describe(image: &str, assessments: &[&AssessmentAnswer]) -> String {
    let image = printable(image);
    if assessments.is_empty() {
        return format!(
            "{image}: no rule requires a vulnerability check, or the image already fails the trust check\n"
        );
    }
    let mut text = String::new();
    for assessment in assessments {
        let platform = printable(assessment.platform.as_deref().unwrap_or_default());
        text += &format!("{image} {platform} {}: {}\n", assessment.digest, assessment.status.as_str());
        let header = ["VULNERABILITY", "POLICY STATUS", "AFFECTED PACKAGES", "HOW TO RESOLVE"];
        text += &super::images::table(header, assessment.issues.iter().map(row));
    }
    text
}

/// A row with the columns of IBM's tool.
fn row(found: &IssueAnswer) -> [String; 4] {
    let issue = &found.issue;
    let status = if issue.exempt {
        "Exempt"
    } else if found.blocks {
        "Active"
    } else {
        "Not covered by the rule"
    };
    // A package may be in several places.
    let mut packages: Vec<&str> = issue.packages.iter().map(|package| &*package.name).collect();
    packages.dedup();
    let upgrade = |package: &AffectedPackage| Some(format!("Upgrade {} to {}", package.name, package.fixed.as_ref()?));
    let mut upgrades: Vec<String> = issue.packages.iter().filter_map(upgrade).collect();
    upgrades.dedup();
    let resolve = upgrades.join("; ");
    let resolve = if resolve.is_empty() { "No fix available".into() } else { resolve };
    [format!("{} ({})", issue.id, issue.severity.as_str()), status.into(), packages.join(", "), resolve]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_report_steers_a_terminal() {
        let hostile = "\u{1b}]0;x\u{7}";
        let assessment: AssessmentAnswer = serde_json::from_value(serde_json::json!({
            "digest": format!("sha256:{}", "a".repeat(64)), "platform": hostile, "status": "FAIL",
            "source": hostile, "why": hostile,
            "issues": [{
                "id": hostile, "aliases": [hostile], "kind": "Vulnerability", "severity": "high",
                "packages": [{"name": "open\u{9b}ssl", "installed": hostile, "fixed": hostile}],
                "exempt": false, "title": hostile, "blocks": true
            }]
        }))
        .unwrap();
        let text = describe(hostile, &[&assessment]);
        assert!(text.contains("Upgrade open\\u{9b}ssl to \\u{1b}]0;x"), "{text:?}");
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
    }
}
