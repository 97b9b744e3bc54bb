//! `pullgate reload`: makes a running gate read its configuration, policies and certificates again.

use bytes::Bytes;
use http::Method;

use super::output::print_json;
use super::remote::{AdminAddress, RefusedAnswer, answer, endpoint};
use super::{CommandError, Exit, GateArgs, Output};
use crate::api::{Reloaded, path};
use crate::config::Config;
use crate::markup::{Problem, ProblemSeverity};
use crate::runtime::{printable, printable_lines};

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate reload --config pullgate.toml
  pullgate config check && pullgate reload -o json | jq .needs_restart";

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &ReloadArgs) -> Exit {
    reload(args).unwrap_or_else(super::fail)
}

fn reload(args: &ReloadArgs) -> Result<Exit, CommandError> {
    let endpoint = endpoint_of_reload(&args.gate)?;
    let answered = answer(&args.gate, &endpoint, Method::POST, path::RELOAD, Bytes::from_static(b"{}"))?;
    let reloaded = answered.or_else(|refusal| parts(&refusal).ok_or(refusal));
    let reloaded: Reloaded = reloaded.map_err(|refusal| refusal.message())?;
    match args.output {
        Output::Json => print_json(&reloaded),
        Output::Table => print!("{}", describe(&reloaded)),
    }
    for warning in &reloaded.warnings {
        eprintln!("pullgate: in use, but: {}", printable_lines(warning));
    }
    for (part, why) in &reloaded.refused {
        eprintln!(
            "pullgate: refused, the previous version stays in use: {}: {}",
            printable(part),
            printable_lines(why)
        );
    }
    Ok(if reloaded.reloaded { Exit::Ok } else { Exit::Config })
}

/// Where the gate is. It says itself what is wrong with its configuration, if the socket can be read from it, and reloads
/// everything else.
fn endpoint_of_reload(gate: &GateArgs) -> Result<AdminAddress, CommandError> {
    if gate.server.is_some() {
        return endpoint(gate);
    }
    match Config::examine(gate.config.as_deref(), std::env::vars()) {
        (Some(config), problems) if !problems.iter().any(hides_socket) => {
            Ok(AdminAddress::Unix(crate::app::admin_socket(&config)))
        }
        (_, problems) => {
            eprintln!(
                "pullgate: the gate was not asked, because the file does not say where its socket is; use --server unix:PATH \
                 or SIGHUP to reload everything else"
            );
            Err(CommandError::Config(problems))
        }
    }
}

/// Whether a mistake is one of `state_dir` or `admin.socket`. Its default is in its place, which may be of another gate.
fn hides_socket(problem: &Problem) -> bool {
    let key = problem.message.split(':').next().unwrap_or_default();
    let is_own = key == "admin" || matches!(key.rsplit('.').next(), Some("state_dir" | "socket"));
    let hint = problem.hint.as_deref().unwrap_or_default();
    let is_meant = hint.contains("\"state_dir\"") || hint.contains("\"socket\"");
    problem.severity == ProblemSeverity::Error && (is_own || is_meant)
}

/// What a refusal says about the parts of the reload. `None` if the call itself was refused.
fn parts(refusal: &RefusedAnswer) -> Option<Reloaded> {
    serde_json::from_slice(&refusal.body).ok().filter(|reloaded: &Reloaded| !reloaded.refused.is_empty())
}

fn describe(reloaded: &Reloaded) -> String {
    let Reloaded { changed, rules_changed, needs_restart, in_use, .. } = reloaded;
    let settings = changed.iter().map(|key| format!("in use: {}\n", printable(key)));
    let rules = rules_changed.then(|| "in use: changed policies\n".to_owned());
    let later = needs_restart.iter().map(|key| format!("after a restart: {}\n", printable(key)));
    let lines: String = settings.chain(rules).chain(later).collect();
    if !reloaded.reloaded {
        let parts: String = in_use.iter().map(|part| format!("reloaded: {}\n", printable(part))).collect();
        return format!("{parts}{lines}");
    }
    if lines.is_empty() {
        "reloaded; no setting and no policy has changed\n".to_owned()
    } else {
        format!("reloaded\n{lines}")
    }
}
