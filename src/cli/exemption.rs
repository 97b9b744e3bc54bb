//! `pullgate exemption add|list|rm|types`: issues that do not count, in the model of `ibmcloud cr exemption-…`.

use serde_json::json;

use super::account::named_or_own;
use super::output::print_json;
use super::table::table;
use super::{CommandError, Exit, GateArgs, Output, remote};
use crate::api::{ExemptionAnswer, ExemptionRequest, ListedExemption, encode, path};
use crate::policy::IssueType;
use crate::runtime::printable;

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate exemption add --scope birds/bluebird --issue-type cve --issue-id CVE-2024-1234 \\
    --expires 30d --reason \"not reachable\"
  pullgate exemption add --scope '*' --issue-type package \\
    --package pkg:deb/debian/linux-libc-dev
  pullgate exemption list --scope birds/bluebird:v1
  pullgate exemption rm --scope birds/bluebird --issue-type cve --issue-id CVE-2024-1234";

/// The commands about exemptions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ExemptionCommand {
    /// Add an exemption, or replace the one of the same issue in the same package and scope. It applies to the next
    /// pull.
    #[command(after_help = EXAMPLES)]
    Add(AddArgs),
    /// List the exemptions of a scope and of wider scopes, or all.
    List {
        /// The scope, such as birds/bluebird:v1. Default: all exemptions.
        #[arg(long, value_name = "SCOPE")]
        scope: Option<String>,
        #[command(flatten)]
        gate: GateArgs,
        /// The output format.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove an exemption that was added by a command.
    Rm(RemoveArgs),
    /// List the types of issues that can be exempt.
    Types {
        /// The output format.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// What an exemption exempts.
#[derive(Debug, clap::Args)]
struct IssueArgs {
    /// The kind of issue: cve, sn (security notice), configuration or package.
    #[arg(long, value_name = "TYPE")]
    issue_type: Option<String>,
    /// The issue: CVE-2024-1234, DSA-5532-1, application_configuration:ssh.private_key.
    #[arg(long, value_name = "ID")]
    issue_id: Option<String>,
    /// Only in this package, by its name or a package URL; with the type package, every vulnerability in it.
    #[arg(long, value_name = "NAME|PURL")]
    package: Option<String>,
    /// The images: *, NAMESPACE, NAMESPACE/REPOSITORY, with :TAG or @DIGEST, each optionally after REGISTRY/. A
    /// namespace is the first part of a repository, not a Kubernetes namespace.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
}

/// Arguments of `exemption add`.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    issue: IssueArgs,
    /// Expiry: a date (the beginning of that day in UTC), a time as in RFC 3339, or a duration such as 30d.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// The reason for the exemption.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who granted the exemption. Default: the account that runs the command.
    #[arg(long, value_name = "NAME", env = "USER")]
    by: Option<String>,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `exemption rm`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The identifier that `exemption list` shows. Instead of it, the exemption can be named as it was added.
    #[arg(conflicts_with_all = ["scope", "issue_type", "issue_id", "package"])]
    id: Option<String>,
    #[command(flatten)]
    issue: IssueArgs,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(command: &ExemptionCommand) -> Exit {
    let outcome = match command {
        ExemptionCommand::Add(args) => add(args),
        ExemptionCommand::List { scope, gate, output } => list(scope.as_deref(), gate, *output),
        ExemptionCommand::Rm(args) => remove(args),
        ExemptionCommand::Types { output } => {
            types(*output);
            Ok(())
        }
    };
    outcome.map_or_else(super::fail, |()| Exit::Ok)
}

fn add(args: &AddArgs) -> Result<(), CommandError> {
    let AddArgs { issue, expires, reason, by, gate, output } = args;
    let request = ExemptionRequest {
        expires: expires.clone(),
        reason: reason.clone(),
        by: Some(named_or_own(by.as_deref())),
        ..issue.request()?
    };
    let added: ExemptionAnswer = remote::post(gate, path::EXEMPTIONS, &request)?;
    if added.scope.registry().is_none() && *output == Output::Table {
        eprintln!("note: the scope names no registry, so the exemption applies in every upstream");
    }
    if let Some(name) = added.scope.docker_hub_namespace().filter(|_| *output == Output::Table) {
        eprintln!(
            "note: docker.io/{name} is the namespace {name}; the official image of that name is docker.io/library/{name}"
        );
    }
    show("added", &added, *output);
    Ok(())
}

fn remove(args: &RemoveArgs) -> Result<(), CommandError> {
    let RemoveArgs { id, issue, gate, output } = args;
    let id = match id {
        Some(id) => id.clone(),
        None => issue.request()?.record()?.id.to_string(),
    };
    let path = format!("{}/{}", path::EXEMPTIONS, encode(&id));
    let removed: ExemptionAnswer = remote::delete(gate, &path)?;
    show("removed", &removed, *output);
    Ok(())
}

impl IssueArgs {
    fn request(&self) -> Result<ExemptionRequest, String> {
        let Self { issue_type, issue_id, package, scope } = self;
        let needed = |value: &Option<String>, option: &str| value.clone().ok_or_else(|| format!("{option} is missing"));
        Ok(ExemptionRequest {
            scope: needed(scope, "--scope")?,
            issue_type: needed(issue_type, "--issue-type")?,
            issue_id: issue_id.clone(),
            package: package.clone(),
            ..ExemptionRequest::default()
        })
    }
}

fn show(done: &str, exemption: &ExemptionAnswer, output: Output) {
    match output {
        Output::Json => print_json(exemption),
        Output::Table => {
            let ExemptionAnswer { id, scope, issue_type, .. } = exemption;
            let end = exemption.expires.map(|end| format!(", until {end}")).unwrap_or_default();
            println!("{done} {id}: {} {}, scope {scope}{end}", issue_type.as_str(), printable(&exempted(exemption)));
        }
    }
}

/// The issue, the package, or both: `CVE-2024-1 in openssl`.
fn exempted(exemption: &ExemptionAnswer) -> String {
    match (&exemption.issue_id, &exemption.package) {
        (Some(issue), Some(package)) => format!("{issue} in {package}"),
        (issue, package) => issue.as_ref().or(package.as_ref()).cloned().unwrap_or_default(),
    }
}

fn list(scope: Option<&str>, gate: &GateArgs, output: Output) -> Result<(), CommandError> {
    let query = scope.map(|scope| format!("?scope={}", encode(scope)));
    let path = format!("{}{}", path::EXEMPTIONS, query.unwrap_or_default());
    let listed: Vec<ListedExemption> = remote::get(gate, &path)?;
    match output {
        Output::Json => print_json(&listed),
        Output::Table if listed.is_empty() => println!("There are no exemptions."),
        Output::Table => {
            let header = ["ID", "SCOPE", "ISSUE TYPE", "ISSUE", "EXPIRES", "BY", "REASON", "FROM"];
            print!("{}", table(header, listed.iter().map(row)));
        }
    }
    Ok(())
}

fn row(listed: &ListedExemption) -> [String; 8] {
    let exemption = &listed.exemption;
    let marked = |text: String, mark: &str, is_marked: bool| if is_marked { format!("{text} ({mark})") } else { text };
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let expires = exemption.expires.map_or_else(|| "-".into(), |end| end.to_string());
    [
        exemption.id.clone(),
        marked(exemption.scope.to_string(), "wider", listed.wider),
        exemption.issue_type.as_str().to_owned(),
        exempted(exemption),
        marked(expires, "ended", listed.ended),
        or_none(&exemption.by),
        or_none(&exemption.reason),
        exemption.document.clone().unwrap_or_else(|| "command".into()),
    ]
}

/// The types and names of `ibmcloud cr exemption-types`, and `package`.
fn types(output: Output) {
    match output {
        Output::Json => {
            let types = IssueType::ALL.map(|kind| json!({"identifier": kind, "displayName": kind.display_name()}));
            print_json(&types);
        }
        Output::Table => {
            let rows =
                IssueType::ALL.into_iter().map(|kind| [kind.as_str().to_owned(), kind.display_name().to_owned()]);
            print!("{}", table(["ISSUE TYPE", "NAME"], rows));
        }
    }
}
