//! `pullgate reload`: makes a running gate read its configuration, policies and certificates again.

use bytes::Bytes;
use http::Method;

use super::output::print_json;
use super::remote::{AdminAddress, RefusedAnswer, answer, configured_socket, endpoint};
use super::{CommandError, Exit, GateArgs, Output};
use crate::api::{Reloaded, path};
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

/// Where the gate is. If the socket can be read from the configuration, the gate itself reports what is wrong with the
/// rest, and reloads what it can.
fn endpoint_of_reload(gate: &GateArgs) -> Result<AdminAddress, CommandError> {
    if gate.server.is_some() {
        return endpoint(gate);
    }
    match configured_socket(gate) {
        Ok((socket, _)) => Ok(AdminAddress::Unix(socket)),
        Err(problems) => {
            // Without a file, that is the mistake.
            if problems.iter().any(|problem| problem.line > 0) {
                eprintln!(
                    "pullgate: the gate was not asked, because these mistakes leave open where its socket is; use --server \
                     unix:PATH or SIGHUP to reload everything else"
                );
            }
            Err(CommandError::Config(problems))
        }
    }
}

/// What a refusal says about the parts of the reload. `None` if the call itself was refused.
fn parts(refusal: &RefusedAnswer) -> Option<Reloaded> {
    serde_json::from_slice(&refusal.body).ok().filter(|reloaded: &Reloaded| !reloaded.refused.is_empty())
}

fn describe(reloaded: &Reloaded) -> String {
    let Reloaded { changed, removed, certificates, rules_changed, needs_restart, in_use, .. } = reloaded;
    let settings = changed.iter().map(|key| format!("in use: {}\n", printable(key)));
    let rules = rules_changed.then(|| "in use: changed policies\n".to_owned());
    let later = needs_restart.iter().map(|key| format!("after a restart: {}\n", printable(key)));
    let removed = removed.iter().map(|what| format!("no longer served: {}\n", printable(what)));
    let lines: String = settings.chain(rules).chain(removed).chain(later).collect();
    // Includes those that were in use before: the gate may just have noticed the new files by itself.
    let certificates: String =
        certificates.iter().map(|what| format!("in use: certificate of {}\n", printable(what))).collect();
    if !reloaded.reloaded {
        let parts: String = in_use.iter().map(|part| format!("reloaded: {}\n", printable(part))).collect();
        return format!("{parts}{lines}{certificates}");
    }
    if lines.is_empty() {
        format!("reloaded; no setting and no policy has changed\n{certificates}")
    } else {
        format!("reloaded\n{lines}{certificates}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_not_in_use_and_certificates_are() {
        let certificates = vec!["127.0.0.1:5000, until 2027-01-01T00:00:00Z".to_owned()];
        let used = "in use: certificate of 127.0.0.1:5000, until 2027-01-01T00:00:00Z\n";
        let same = Reloaded { reloaded: true, certificates, ..Reloaded::default() };
        assert_eq!(describe(&same), format!("reloaded; no setting and no policy has changed\n{used}"));
        let removed = vec!["upstream reg.test".to_owned()];
        let changed = Reloaded { changed: vec!["gate.mode".to_owned()], removed, ..same.clone() };
        let lines = format!("in use: gate.mode\nno longer served: upstream reg.test\n{used}");
        assert_eq!(describe(&changed), format!("reloaded\n{lines}"));
        let refused = changed.refusing([("policy".to_owned(), "why".to_owned())].into());
        let parts = "reloaded: audit\nreloaded: certificates\nreloaded: configuration\n";
        assert_eq!(describe(&refused), format!("{parts}{lines}"));
    }
}
