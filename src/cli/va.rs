//! `pullgate va IMAGE`: what is installed in an image, and which vulnerabilities are known in it.

mod trivy;

use clap::ValueEnum;

use super::remote::{self, run_job};
use super::{Exit, GateArgs};
use crate::api::{CheckRequest, ImageScan, IssueAnswer, path};
use crate::inventory::{self, Inventory};
use crate::policy::AffectedPackage;
use crate::runtime::printable;

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate va --config pullgate.toml docker.io/library/nginx:1.27
  pullgate va --config pullgate.toml --output cyclonedx nginx > nginx.cdx.json
  pullgate va --config pullgate.toml --offline --output trivy nginx@sha256:…";

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
    /// Examine the image in this process with the given configuration, without a running gate; for CI jobs.
    #[arg(long)]
    offline: bool,
    /// List all packages, not only those with vulnerabilities.
    #[arg(long)]
    packages: bool,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: VaOutput,
}

/// The output format of `va`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum VaOutput {
    /// A software bill of materials in CycloneDX JSON; one document for each image.
    #[value(name = "cyclonedx")]
    CycloneDx,
    /// Everything that is known, as a JSON list of images.
    Json,
    /// Text for people.
    #[default]
    Table,
    /// A report in the JSON format of Trivy; one document for each image.
    Trivy,
}

pub(super) fn run(args: &VaArgs) -> Exit {
    let request = CheckRequest { image: args.image.clone(), namespace: args.namespace.clone() };
    let scans = match scan(args, &request) {
        Ok(scans) => scans,
        Err(error) => return super::fail(error),
    };
    match args.output {
        VaOutput::CycloneDx => scans.iter().for_each(|scan| print_json(&sbom(&args.image, scan))),
        VaOutput::Json => print_json(&scans),
        VaOutput::Table => print!("{}", describe(&args.image, &scans, args.packages)),
        VaOutput::Trivy => scans.iter().for_each(|scan| print_json(&trivy::report(&args.image, scan))),
    }
    let blocks = scans.iter().flat_map(|scan| &scan.assessment.issues).any(|found| found.blocks);
    if blocks { Exit::Denied } else { Exit::Ok }
}

fn print_json(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Asks the running gate. If only a configuration is given and no gate is running on its state directory, examines the
/// image in this process.
fn scan(args: &VaArgs, request: &CheckRequest) -> Result<Vec<ImageScan>, String> {
    let gate = &args.gate;
    if args.offline || (gate.server.is_none() && gate.config.is_some() && !remote::is_running(gate)) {
        let config = super::config::load_or_say(gate.config.as_deref())?;
        let runtime = super::runtime().map_err(|error| error.to_string())?;
        return runtime.block_on(crate::app::scan_offline(config, request));
    }
    run_job(gate, path::SCAN, request)
}

fn sbom(image: &str, scan: &ImageScan) -> serde_json::Value {
    let inventory = Inventory {
        distribution: scan.distribution.clone(),
        packages: scan.packages.iter().map(|found| found.package.clone()).collect(),
        gaps: scan.gaps.clone(),
        ..Inventory::default()
    };
    inventory::cyclonedx(&inventory, image, &scan.assessment.digest)
}

/// The scans as text, with a table for each image.
fn describe(image: &str, scans: &[ImageScan], packages: bool) -> String {
    let image = printable(image);
    if scans.is_empty() {
        return format!("{image}: contains no image for any platform that matters here\n");
    }
    let mut text = String::new();
    for scan in scans {
        let assessment = &scan.assessment;
        let platform = printable(assessment.platform.as_deref().unwrap_or_default());
        text += &format!("{image} {platform} {}: {}\n", assessment.digest, assessment.status.as_str());
        let mut line = |label: &str, value: &str| text += &format!("  {label:<14} {}\n", printable(value));
        if let Some(distribution) = &scan.distribution {
            line("distribution", &distribution.pretty_name);
        }
        line("packages", &scan.packages.len().to_string());
        if let Some(source) = &assessment.source {
            let made = scan.generated_at.map(|at| format!(", of {at}")).unwrap_or_default();
            line("judged by", &format!("{source}{made}"));
        }
        assessment.why.iter().for_each(|why| line("reason", why));
        scan.gaps.iter().for_each(|gap| line("not read", &format!("{}: {}", gap.place, gap.problem)));
        if !assessment.issues.is_empty() {
            let header = ["VULNERABILITY", "POLICY STATUS", "AFFECTED PACKAGES", "SOURCE", "HOW TO RESOLVE"];
            text += &super::images::table(header, assessment.issues.iter().map(row));
        }
        if packages {
            let header = ["PACKAGE", "VERSION", "PURL", "PATH"];
            let row = |found: &crate::api::PackageAnswer| {
                let package = &found.package;
                let path = package.path.clone().unwrap_or_default();
                [package.name.clone(), package.version.clone(), found.purl.clone(), path]
            };
            text += &super::images::table(header, scan.packages.iter().map(row));
        }
    }
    text
}

/// A row with the columns of IBM's tool, and the database that lists the vulnerability.
fn row(found: &IssueAnswer) -> [String; 5] {
    let issue = &found.issue;
    let status = if issue.exempt {
        "Exempt"
    } else if found.blocks {
        "Active"
    } else {
        "Not covered by the rule"
    };
    let installed = |package: &AffectedPackage| match &package.installed {
        Some(version) => format!("{} {version}", package.name),
        None => package.name.clone(),
    };
    let upgrade = |package: &AffectedPackage| Some(format!("Upgrade {} to {}", package.name, package.fixed.as_ref()?));
    let packages = joined(issue.packages.iter().map(installed), ", ");
    let sources = joined(issue.packages.iter().filter_map(|package| package.database.clone()), ", ");
    let upgrades = joined(issue.packages.iter().filter_map(upgrade), "; ");
    let resolve = if upgrades.is_empty() { "No fix available".into() } else { upgrades };
    [format!("{} ({})", issue.id, issue.severity.as_str()), status.into(), packages, sources, resolve]
}

/// Joins texts without repeating one: a package may be in several places.
fn joined(texts: impl Iterator<Item = String>, separator: &str) -> String {
    let mut different: Vec<String> = Vec::new();
    for text in texts {
        if !different.contains(&text) {
            different.push(text);
        }
    }
    different.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_report_steers_a_terminal() {
        let hostile = "\u{1b}]0;x\u{7}";
        let scan: ImageScan = serde_json::from_value(serde_json::json!({
            "digest": format!("sha256:{}", "a".repeat(64)), "platform": hostile, "status": "FAIL",
            "source": hostile, "why": hostile, "generated_at": null,
            "distribution": {
                "id": hostile, "like": [], "version": hostile, "codename": "", "pretty_name": hostile, "repository": null
            },
            "packages": [{"ecosystem": "deb", "name": hostile, "version": hostile, "purl": hostile, "path": hostile}],
            "gaps": [{"place": hostile, "problem": hostile}],
            "issues": [{
                "id": hostile, "aliases": [hostile], "kind": "Vulnerability", "severity": "high",
                "packages": [{"name": "open\u{9b}ssl", "installed": hostile, "fixed": hostile}],
                "exempt": false, "title": hostile, "blocks": true
            }]
        }))
        .unwrap();
        let text = describe(hostile, &[scan], true);
        assert!(text.contains("Upgrade open\\u{9b}ssl to \\u{1b}]0;x"), "{text:?}");
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
    }
}
