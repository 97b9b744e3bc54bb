//! Examples for the help texts of groups of commands, and of commands that take few arguments. Commands with more have
//! them next to their arguments.

use clap::Command;

/// The words of a command, and examples of it.
const EXAMPLES: &[(&[&str], &str)] = &[
    (
        &["bundle"],
        "pullgate bundle export --config pullgate.toml -f shop.tar nginx:1.27\n  pullgate bundle import --config pullgate.toml shop.tar",
    ),
    (&["cache"], "pullgate cache status --config pullgate.toml\n  pullgate cache list --config pullgate.toml"),
    (
        &["cache", "gc"],
        "pullgate cache gc --config pullgate.toml --dry-run\n  pullgate cache gc --config pullgate.toml",
    ),
    (&["cache", "pins"], "pullgate cache pins --config pullgate.toml"),
    (
        &["cache", "status"],
        "pullgate cache status --config pullgate.toml\n  pullgate cache status -o json | jq .stored_bytes",
    ),
    (&["cache", "unpin"], "pullgate cache unpin --config pullgate.toml docker.io/library/nginx:1.27"),
    (&["cache", "verify"], "pullgate cache verify --config pullgate.toml"),
    (&["certs"], "pullgate certs init --name gate.corp.example"),
    (
        &["certs", "init"],
        "pullgate certs init --name gate.corp.example --name 10.1.2.3\n  pullgate certs init --dir /etc/pullgate/certs --days 90",
    ),
    (&["config"], "pullgate config check --config pullgate.toml\n  pullgate config show --config pullgate.toml"),
    (&["config", "check"], "pullgate config check --config pullgate.toml"),
    (
        &["config", "show"],
        "pullgate config show --config pullgate.toml\n  PULLGATE__GATE__MODE=audit pullgate config show --config pullgate.toml",
    ),
    (&["db"], "pullgate db update --config pullgate.toml\n  pullgate db status --config pullgate.toml"),
    (&["db", "export"], "pullgate db export --config pullgate.toml advisories.tar.gz"),
    (
        &["db", "import"],
        "pullgate db import --config pullgate.toml advisories.tar.gz\n  pullgate db import --config pullgate.toml --ecosystem PyPI all.zip",
    ),
    (&["db", "status"], "pullgate db status --config pullgate.toml\n  pullgate db status -o json"),
    (&["db", "update"], "pullgate db update --config pullgate.toml"),
    (&["demo"], "pullgate demo\n  pullgate demo --listen 127.0.0.1:5100\n  pullgate demo --once"),
    (
        &["exemption"],
        "pullgate exemption add --scope birds --issue-type cve --issue-id CVE-2024-1234 --expires 30d\n  pullgate exemption list",
    ),
    (&["exemption", "list"], "pullgate exemption list\n  pullgate exemption list --scope birds/bluebird:v1 -o json"),
    (
        &["exemption", "rm"],
        "pullgate exemption rm 3f2a90c1d4e5\n  pullgate exemption rm --scope birds --issue-type cve --issue-id CVE-2024-1234",
    ),
    (&["exemption", "types"], "pullgate exemption types"),
    (
        &["policy"],
        "pullgate policy check policies\n  pullgate policy match --config pullgate.toml docker.io/library/nginx:1.27",
    ),
    (
        &["policy", "check"],
        "pullgate policy check policies\n  pullgate policy check --config pullgate.toml -o json policies",
    ),
    (
        &["policy", "eval"],
        "echo '{\"image\": \"docker.io/library/nginx:1.27\", \"va\": {\"status\": \"OK\"}}' \\\n    | pullgate policy eval --policies policies",
    ),
    (
        &["policy", "import"],
        "pullgate policy import /etc/containers/policy.json \\\n    --registries-d /etc/containers/registries.d > policies/import.yaml",
    ),
    (&["policy", "match"], "pullgate policy match --policies policies --namespace ci nginx ghcr.io/acme/app:v1"),
    (&["policy", "schema"], "pullgate policy schema > policy.schema.json"),
    (&["ready"], "pullgate ready --config pullgate.toml\n  pullgate ready --server unix:/var/lib/pullgate/admin.sock"),
    (
        &["serve"],
        "pullgate serve --config pullgate.toml\n  PULLGATE__LOG__FORMAT=json pullgate serve --config pullgate.toml",
    ),
    (&["trust"], "pullgate trust status --config pullgate.toml\n  pullgate trust update"),
    (&["trust", "forget"], "pullgate trust forget docker.io/library/nginx"),
    (
        &["trust", "status"],
        "pullgate trust status --config pullgate.toml\n  pullgate trust status -o json trusted_root.json",
    ),
];

/// The command line with the examples in its help texts.
pub(super) fn with_examples(root: Command) -> Command {
    EXAMPLES.iter().fold(root, |root, (words, examples)| add(root, words, examples))
}

fn add(command: Command, words: &[&str], examples: &str) -> Command {
    match words {
        [] => command.after_help(format!("Examples:\n  {examples}")),
        [first, rest @ ..] => command.mut_subcommand(first, |sub| add(sub, rest, examples)),
    }
}
