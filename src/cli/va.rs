//! `pullgate va IMAGE…`: what is installed in images, which vulnerabilities are known in them, and how to resolve them.

mod sarif;
mod text;
mod trivy;

use clap::ValueEnum;
use serde_json::Value;

use self::text::{Show, describe, overview};
use super::output::print_json;
use super::remote::{self, run_job};
use super::table::terminal_width;
use super::{CommandError, Exit, GateArgs, ImageArgs, ScopeArgs, check};
use crate::api::ibm::{IbmImageReport, IbmScanReport};
use crate::api::{CheckRequest, ImageScan, path};
use crate::inventory::{self, Inventory};
use crate::policy::IssueKind;
use crate::runtime::printable;

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate va --config pullgate.toml docker.io/library/nginx:1.27
  pullgate va --config pullgate.toml --output cyclonedx nginx > nginx.cdx.json
  pullgate va --config pullgate.toml --output sarif --images images.txt > images.sarif
  pullgate va --config pullgate.toml --offline --output trivy nginx@sha256:…";

/// Arguments of `va`.
#[derive(Debug, clap::Args)]
pub(super) struct VaArgs {
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    gate: GateArgs,
    /// Examine the images in this process with the given configuration, without a running gate; for CI jobs.
    #[arg(long)]
    offline: bool,
    /// List all packages, not only those with vulnerabilities.
    #[arg(long)]
    packages: bool,
    /// Show more about each vulnerability: score, date of publication, database, summary, and all packages with paths.
    #[arg(long, short)]
    extended: bool,
    /// Show only vulnerabilities.
    #[arg(long, short = 'v')]
    vulnerabilities: bool,
    /// Show only configuration issues.
    #[arg(long, short = 'c', conflicts_with = "vulnerabilities")]
    configuration_issues: bool,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: VaOutput,
}

/// The output format of `va`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum VaOutput {
    /// A software bill of materials in CycloneDX JSON; one document for each image.
    #[value(name = "cyclonedx")]
    CycloneDx,
    /// The JSON list of `ibmcloud cr va`.
    Ibm,
    /// Everything that is known, as a JSON list of images, with the fields of IBM's reports.
    Json,
    /// A log in SARIF 2.1.0, for code scanning, with a run for each image.
    Sarif,
    /// Text for people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// A report in the JSON format of Trivy; one document for each image.
    Trivy,
}

/// An image as it was asked for, and what was found: one scan, or one for each relevant image of an index.
pub(super) struct AskedImage {
    pub(super) image: String,
    pub(super) scans: Vec<ImageScan>,
}

impl AskedImage {
    /// Why there is no scan: nothing was examined, which is a failure.
    pub(super) fn no_image(&self) -> String {
        format!("{}: contains no image for any platform that matters here", printable(&self.image))
    }
}

pub(super) fn run(args: &VaArgs) -> Exit {
    let images = match args.images.read() {
        Ok(images) => images,
        Err(error) => return super::fail(error),
    };
    let (mut asked, mut exit) = (Vec::new(), Exit::Ok);
    for image in images {
        if args.output == VaOutput::Table {
            eprintln!("Checking security issues for '{}'...", printable(&image));
        }
        let request = CheckRequest { image: image.clone(), namespace: args.scope.namespace.clone() };
        match scan(args, &request) {
            Ok(scans) => {
                let found = AskedImage { image, scans };
                if found.scans.is_empty() {
                    exit = super::fail(found.no_image());
                }
                asked.push(found);
            }
            Err(error) => exit = super::fail(error),
        }
    }
    asked.retain(|asked| !asked.scans.is_empty());
    if asked.is_empty() {
        return exit;
    }
    print(args, &asked);
    match exit {
        Exit::Ok => exit_of(asked.iter().flat_map(|asked| &asked.scans)),
        exit => exit,
    }
}

/// As for `pullgate check`, but only for what the rules say about vulnerabilities and other conditions on images.
fn exit_of<'a>(scans: impl Iterator<Item = &'a ImageScan>) -> Exit {
    check::lowest(scans.map(|scan| match scan.assessment.decision {
        Some(decision) => check::exit_of(decision),
        None if scan.assessment.is_admitted() => Exit::Ok,
        None => Exit::Denied,
    }))
}

impl VaArgs {
    /// The only kind of issues that is shown; `None` for all. The status and the exit code are those of all issues.
    fn only(&self) -> Option<IssueKind> {
        match (self.vulnerabilities, self.configuration_issues) {
            (true, _) => Some(IssueKind::Vulnerability),
            (_, true) => Some(IssueKind::Configuration),
            (false, false) => None,
        }
    }
}

fn print(args: &VaArgs, asked: &[AskedImage]) {
    let scans = || asked.iter().flat_map(|asked| asked.scans.iter().map(|scan| (asked.image.as_str(), scan)));
    match args.output {
        VaOutput::CycloneDx => scans().for_each(|(image, scan)| print_json(&sbom(image, scan))),
        VaOutput::Ibm => {
            let report = |(image, scan)| IbmImageReport::new(image, &restricted(scan, args.only()));
            print_json(&scans().map(report).collect::<Vec<_>>());
        }
        VaOutput::Json => {
            let full = |(_, scan)| with_ibm_fields(&restricted(scan, args.only()));
            print_json(&scans().map(full).collect::<Vec<_>>());
        }
        VaOutput::Sarif => print_json(&sarif::log(scans())),
        VaOutput::Table => {
            let (packages, extended) = (args.packages, args.extended);
            let show = Show { packages, extended, only: args.only(), width: terminal_width() };
            asked.iter().for_each(|asked| print!("{}", describe(asked, &show)));
            if asked.len() > 1 {
                print!("{}", overview(asked, &show));
            }
        }
        VaOutput::Trivy => {
            for (image, scan) in scans() {
                for what in trivy::not_assessed(scan) {
                    eprintln!("warning: {}: not assessed: {}", printable(image), printable(&what));
                }
                print_json(&trivy::report(image, scan));
            }
        }
    }
}

/// A scan with only the issues of one kind.
fn restricted(scan: &ImageScan, only: Option<IssueKind>) -> ImageScan {
    let mut scan = scan.clone();
    scan.assessment.issues.retain(|found| only.is_none_or(|kind| found.issue.kind == kind));
    scan
}

/// A scan as JSON, with the fields of IBM's report in addition to its own. Both have `id` and `status`, with the same
/// values.
///
/// `issues` lists vulnerabilities only, as the reports of other scanners do; the issues of the configuration are in
/// `configuration`.
fn with_ibm_fields(scan: &ImageScan) -> Value {
    let mut value = serde_json::to_value(scan).unwrap_or_default();
    let report = serde_json::to_value(IbmScanReport::new(scan)).unwrap_or_default();
    if let (Some(fields), Value::Object(report)) = (value.as_object_mut(), report) {
        fields.extend(report);
        let all = fields.remove("issues").and_then(|issues| issues.as_array().cloned()).unwrap_or_default();
        let kind = serde_json::to_value(IssueKind::Configuration).unwrap_or_default();
        let (configuration, issues) = all.into_iter().partition(|issue| issue["kind"] == kind);
        fields.extend([
            ("issues".to_owned(), Value::Array(issues)),
            ("configuration".to_owned(), Value::Array(configuration)),
        ]);
    }
    value
}

/// Asks the running gate. If only a configuration is given and no gate is running on its state directory, examines the
/// image in this process.
fn scan(args: &VaArgs, request: &CheckRequest) -> Result<Vec<ImageScan>, CommandError> {
    let gate = &args.gate;
    if args.offline || (gate.server.is_none() && gate.config.is_some() && !remote::is_running(gate)?) {
        let config = super::config::load_or_error(gate.config.as_deref())?;
        let runtime = super::runtime()?;
        return Ok(runtime.block_on(crate::app::scan_offline(config, request))?);
    }
    run_job(gate, path::SCAN, request)
}

fn sbom(image: &str, scan: &ImageScan) -> Value {
    let inventory = Inventory {
        distribution: scan.distribution.clone(),
        packages: scan.packages.iter().map(|found| found.package.clone()).collect(),
        gaps: scan.gaps.clone(),
        ..Inventory::default()
    };
    inventory::cyclonedx(&inventory, image, &scan.assessment.digest, scan.read_at)
}

#[cfg(test)]
mod tests;
