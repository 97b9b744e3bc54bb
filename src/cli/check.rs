//! `pullgate check IMAGE`: explains in full how the gate would decide.

use super::remote::{self, query};
use super::{Exit, GateArgs, Output};
use crate::gate::{Assessment, AuthorityExplanation, Explanation};
use crate::runtime::printable;

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate check --config pullgate.toml docker.io/library/nginx:1.27
  pullgate check --config pullgate.toml --offline --output json nginx@sha256:…
  pullgate check --server http://127.0.0.1:5001 --namespace ci nginx";

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The image, such as docker.io/library/nginx:1.27 or a short name.
    image: String,
    /// The Kubernetes namespace, or other scope, whose rules apply.
    #[arg(long, short, default_value = "", value_name = "NAMESPACE", hide_default_value = true)]
    namespace: String,
    #[command(flatten)]
    gate: GateArgs,
    /// Judge in this process with the given configuration, without a running gate; for CI jobs.
    #[arg(long)]
    offline: bool,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &CheckArgs) -> Exit {
    match explanation(&args.gate, &args.image, &args.namespace, args.offline) {
        Ok(explanation) => {
            match args.output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&explanation).unwrap_or_default()),
                Output::Table => print!("{}", describe(&explanation)),
            }
            if explanation.decision == "deny" { Exit::Denied } else { Exit::Ok }
        }
        Err(error) => super::fail(error),
    }
}

/// Asks the running gate. If only a configuration is given and no gate is running on its state directory, judges in
/// this process.
pub(super) fn explanation(gate: &GateArgs, image: &str, namespace: &str, offline: bool) -> Result<Explanation, String> {
    let path = format!("/api/v1/check?{}", query(&[("image", image), ("namespace", namespace)]));
    if offline || (gate.server.is_none() && gate.config.is_some() && !remote::is_running(gate)) {
        let config = super::config::load_or_say(gate.config.as_deref())?;
        return super::runtime()
            .map_err(|error| error.to_string())?
            .block_on(crate::app::check_offline(config, image, namespace));
    }
    remote::get(gate, &path)
}

/// The explanation as text.
pub(super) fn describe(explanation: &Explanation) -> String {
    let mut text = format!("{}\n", printable(&explanation.image));
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<12} {}\n", printable(value)));
    line("decision", &explanation.decision);
    if let Some(digest) = &explanation.digest {
        line("digest", &digest.to_string());
    }
    if let Some(kind) = &explanation.kind {
        line("kind", kind);
    }
    if !explanation.skipped.is_empty() {
        line(
            "skipped",
            &format!("{}, because the image contains nothing that can be run", explanation.skipped.join(", ")),
        );
    }
    if !explanation.message.is_empty() {
        line("reason", &explanation.message);
    }
    for would_deny in explanation.would_deny.iter().filter(|text| **text != explanation.message) {
        line("audit", &format!("would be denied: {would_deny}"));
    }
    for rule in &explanation.rules {
        let verb = match (rule.audited, rule.admits) {
            (_, true) => "admits",
            (false, false) => "denies",
            (true, false) => "would deny (audit mode)",
        };
        line("rule", &format!("{} {:?}: {verb}", rule.document, rule.rule));
        for AuthorityExplanation { authority, outcome, details } in &rule.authorities {
            line("  trust", &format!("{authority}: {outcome}: {}", details.join("; ")));
        }
        for assessment in &rule.assessments {
            line("  va", &describe_assessment(assessment));
            for found in &assessment.issues {
                let blocks = if found.blocks {
                    "blocks"
                } else if found.issue.exempt {
                    "exempt"
                } else {
                    "does not count"
                };
                line("   ", &format!("{} {} ({blocks})", found.issue.id, found.issue.severity.as_str()));
            }
        }
    }
    text
}

fn describe_assessment(assessment: &Assessment) -> String {
    let platform = assessment.platform.as_deref().unwrap_or("image");
    let source = assessment.source.as_deref().map(|source| format!(", by {source}")).unwrap_or_default();
    let why = assessment.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{platform}: {}{source}{why}", assessment.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_cannot_control_a_terminal() {
        let hostile = "\u{1b}]0;x\u{7}";
        let explanation = serde_json::json!({
            "image": hostile, "namespace": hostile, "digest": null, "kind": hostile, "skipped": [hostile],
            "decision": hostile, "message": hostile, "would_deny": [hostile, "\u{9b}"],
            "rules": [{
                "document": hostile, "rule": hostile, "admits": true, "message": hostile,
                "authorities": [{"authority": hostile, "outcome": hostile, "details": [hostile]}],
                "assessments": []
            }]
        });
        let text = describe(&serde_json::from_value(explanation).unwrap());
        assert!(text.contains("\\u{1b}]0;x") && !text.replace('\n', "").contains(char::is_control), "{text:?}");
    }
}
