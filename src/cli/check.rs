//! `pullgate check IMAGE…`: explains in full how the gate would decide.

mod junit;
mod sarif;
mod text;

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::Value;

use super::{CommandError, Exit, GateArgs, ImageArgs, ScopeArgs, remote};
use crate::api::{CheckAnswer, CheckRequest, Decision, path};
use crate::config::Config;
use crate::oci::ImageReference;

/// Shown below the help text.
pub(super) const EXAMPLES: &str =
    "Exit codes: 0 all are admitted, 1 an image could not be checked, 2 an image is denied, \
3 an image cannot be judged now, 4 an image is served only because denials are not enforced. \
The lowest of 1 to 4 that applies counts.

Examples:
  pullgate check --config pullgate.toml docker.io/library/nginx:1.27
  pullgate check --config pullgate.toml --offline -o json nginx@sha256:…
  pullgate check --config pullgate.toml --offline -o junit --images images.txt > pullgate.xml
  pullgate check --server http://127.0.0.1:5001 --namespace ci nginx redis:7";

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    gate: GateArgs,
    /// Judge in this process with the given configuration, without a running gate; for CI jobs.
    #[arg(long)]
    offline: bool,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: CheckOutput,
}

/// The output format of `check`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum CheckOutput {
    /// A JSON object for one image, and a list of them for several.
    Json,
    /// A test suite in the XML format of JUnit, with a test case for each image, for CI systems.
    Junit,
    /// A log in SARIF 2.1.0, for code scanning, with a result for each reason.
    Sarif,
    /// Text for people.
    #[default]
    #[value(alias = "text")]
    Table,
}

/// An image as it was asked for, and the answer or why there is none.
struct CheckedImage {
    image: String,
    answer: Result<CheckAnswer, String>,
}

pub(super) fn run(args: &CheckArgs) -> Exit {
    let images = match args.images.read() {
        Ok(images) => images,
        Err(error) => return super::fail(error),
    };
    let judge = match ImageJudge::of(&args.gate, args.offline) {
        Ok(judge) => judge,
        Err(error) => return super::fail(error),
    };
    let check = |image: String| {
        let request = CheckRequest { image: image.clone(), namespace: args.scope.namespace.clone() };
        let answer = judge.check(&args.gate, &request);
        if args.output == CheckOutput::Table {
            match &answer {
                Ok(answer) => print!("{}", text::describe(answer, &judge.to_string())),
                Err(error) => _ = super::fail(format!("{image}: {error}")),
            }
        }
        CheckedImage { image, answer }
    };
    let checked: Vec<CheckedImage> = images.into_iter().map(check).collect();
    match args.output {
        CheckOutput::Json => print_json(&checked, &judge),
        CheckOutput::Junit => print!("{}", junit::suite(&checked, &judge.to_string())),
        CheckOutput::Sarif => {
            let log = sarif::log(&checked, &judge.to_string());
            super::output::print_json(&log);
        }
        CheckOutput::Table => {}
    }
    exit(&checked)
}

/// The lowest exit code that applies to an image, except 0.
fn exit(checked: &[CheckedImage]) -> Exit {
    let of = |checked: &CheckedImage| match &checked.answer {
        Err(_) => Exit::Failure,
        Ok(answer) => exit_of(answer.decision),
    };
    lowest(checked.iter().map(of))
}

/// The exit code for an image with this decision.
pub(super) fn exit_of(decision: Decision) -> Exit {
    match decision {
        Decision::Admit => Exit::Ok,
        Decision::WouldDeny => Exit::WouldDeny,
        Decision::Deny => Exit::Denied,
        Decision::Pending | Decision::Unavailable => Exit::Unknown,
    }
}

/// The lowest of these exit codes, except 0.
pub(super) fn lowest(found: impl Iterator<Item = Exit>) -> Exit {
    let found: Vec<Exit> = found.collect();
    let order = [Exit::Failure, Exit::Denied, Exit::Unknown, Exit::WouldDeny];
    order.into_iter().find(|exit| found.contains(exit)).unwrap_or(Exit::Ok)
}

fn print_json(checked: &[CheckedImage], judge: &ImageJudge) {
    let value = |checked: &CheckedImage| {
        let mut value = match &checked.answer {
            Ok(answer) => serde_json::to_value(answer).unwrap_or_default(),
            Err(error) => serde_json::json!({"image": checked.image, "error": error}),
        };
        value["judged_by"] = Value::String(judge.to_string());
        value
    };
    let text = match checked {
        [one] => serde_json::to_string_pretty(&value(one)),
        all => serde_json::to_string_pretty(&all.iter().map(value).collect::<Vec<_>>()),
    };
    println!("{}", text.unwrap_or_default());
}

/// Who judges: a gate that runs, with everything that it remembers, or this process.
enum ImageJudge {
    Running(String),
    ThisProcess(Box<Config>, Option<PathBuf>),
}

impl ImageJudge {
    /// The running gate. If only a configuration is given and no gate runs on its state directory, this process judges.
    fn of(gate: &GateArgs, offline: bool) -> Result<Self, CommandError> {
        if offline || (gate.server.is_none() && gate.config.is_some() && !remote::is_running(gate)?) {
            let config = super::config::load_or_error(gate.config.as_deref())?;
            if !offline {
                eprintln!("pullgate: no gate is running with this configuration; judging in this process instead");
            }
            return Ok(Self::ThisProcess(Box::new(config), gate.config.clone()));
        }
        Ok(Self::Running(remote::address(gate)?))
    }

    fn check(&self, gate: &GateArgs, request: &CheckRequest) -> Result<CheckAnswer, String> {
        match self {
            Self::Running(_) => {
                let answer = remote::get(gate, &format!("{}?{}", path::CHECK, request.to_query()));
                let answer: CheckAnswer = answer.map_err(|error| error.to_string())?;
                match is_about(&answer, request) {
                    true => Ok(answer),
                    false => {
                        Err(format!("the gate's answer is about {}, in namespace {:?}", answer.image, answer.namespace))
                    }
                }
            }
            Self::ThisProcess(config, _) => {
                let runtime = super::runtime().map_err(|error| error.to_string())?;
                runtime.block_on(crate::app::check_offline(Config::clone(config), request))
            }
        }
    }
}

/// Whether an answer is about the image of a request. The host may be another name of the registry, and the gate adds
/// what short names of Docker Hub leave out.
fn is_about(answer: &CheckAnswer, request: &CheckRequest) -> bool {
    let (Ok(asked), Ok(answered)) = (request.image.parse::<ImageReference>(), answer.image.parse::<ImageReference>())
    else {
        return false;
    };
    let path = |image: &ImageReference| {
        let repository = image.name.repository.as_str();
        repository.strip_prefix("library/").unwrap_or(repository).to_owned()
    };
    answer.namespace == request.namespace
        && asked.reference() == answered.reference()
        && path(&asked) == path(&answered)
}

impl std::fmt::Display for ImageJudge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running(address) => write!(f, "the gate at {address}"),
            Self::ThisProcess(_, Some(config)) => write!(f, "this process, with {}", config.display()),
            Self::ThisProcess(_, None) => f.write_str("this process"),
        }
    }
}

#[cfg(test)]
mod tests;
