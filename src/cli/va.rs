//! `pullgate va IMAGE`: the vulnerability report.

use super::{Exit, Output, Where};
use crate::gate::IssueExplanation;
use crate::runtime::printable;

/// Arguments of `va`.
#[derive(Debug, clap::Args)]
pub(super) struct VaArgs {
    /// The image.
    image: String,
    /// The Kubernetes namespace, or other scope, whose rules apply.
    #[arg(long, short, default_value = "", value_name = "NAMESPACE", hide_default_value = true)]
    namespace: String,
    #[command(flatten)]
    place: Where,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &VaArgs) -> Exit {
    let explanation = match super::check::explanation(&args.place, &args.image, &args.namespace, false) {
        Ok(explanation) => explanation,
        Err(error) => return super::fail(error),
    };
    let image = printable(&explanation.image);
    let assessments: Vec<_> = explanation.rules.iter().flat_map(|rule| &rule.assessments).collect();
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&assessments).unwrap_or_default());
    } else if assessments.is_empty() {
        println!("{image}: no rule asks for a vulnerability check, or trust denies before it");
    }
    let mut has_findings = false;
    for assessment in assessments {
        has_findings |= assessment.issues.iter().any(|found| found.blocks);
        if args.output == Output::Table {
            let platform = printable(assessment.platform.as_deref().unwrap_or_default());
            println!("{image} {platform} {}: {}", assessment.digest, printable(&assessment.status));
            let header = ["VULNERABILITY", "POLICY STATUS", "AFFECTED PACKAGES", "HOW TO RESOLVE"];
            print!("{}", super::images::table(header, assessment.issues.iter().map(row)));
        }
    }
    if has_findings { Exit::Denied } else { Exit::Ok }
}

/// IBM's columns.
fn row(found: &IssueExplanation) -> [String; 4] {
    let issue = &found.issue;
    let status = if issue.exempt {
        "Exempt"
    } else if found.blocks {
        "Active"
    } else {
        "Below the rule"
    };
    let packages: Vec<&str> = issue.packages.iter().map(|package| &*package.name).collect();
    let upgrades = issue
        .packages
        .iter()
        .filter_map(|package| package.fixed.as_ref().map(|fixed| format!("Upgrade {} to {fixed}", package.name)));
    let resolve = upgrades.collect::<Vec<_>>().join("; ");
    let resolve = if resolve.is_empty() { "No fix is published".into() } else { resolve };
    [format!("{} ({})", issue.id, issue.severity.as_str()), status.into(), packages.join(", "), resolve]
}
