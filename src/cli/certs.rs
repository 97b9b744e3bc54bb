//! `pullgate certs init`: a development CA and a server certificate.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::pki::{self, CertificateRequest, CertificateSet, CertificateState, PkiError};
use crate::runtime::Clock;

/// Commands about certificates.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CertsCommand {
    /// Make a development CA and a server certificate.
    Init(InitArgs),
}

/// Makes a development CA and a server certificate for this gate.
#[derive(Args, Clone, Debug)]
pub(super) struct InitArgs {
    /// Output directory
    #[arg(long, default_value = "certs", value_name = "DIR")]
    dir: PathBuf,
    /// A DNS name or address by which clients reach the gate, besides localhost and this machine's name; repeatable
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// How long the server certificate is valid
    #[arg(long, default_value_t = 825, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Replace an existing CA and certificate, even if issued by someone else
    #[arg(long)]
    force: bool,
}

pub(super) fn run(command: &CertsCommand) -> Exit {
    let CertsCommand::Init(InitArgs { dir, names, days, force }) = command;
    let request = CertificateRequest { dir: dir.clone(), names: names.clone(), days: *days, replace: *force };
    match pki::init(&request, Clock::system().now()) {
        Ok(set) => {
            print!("{}", describe(&set));
            Exit::Ok
        }
        Err(error) => super::fail(format!("{error}{}", hint(&error))),
    }
}

/// What `--force` would do about an error.
fn hint(error: &PkiError) -> &'static str {
    match error {
        PkiError::Expired { .. } => "; `--force` creates a new one, which clients must then trust",
        PkiError::Foreign { .. } | PkiError::Unusable { .. } => "; `--force` replaces it",
        PkiError::Io { .. } | PkiError::Make(_) | PkiError::Name(_) => "",
    }
}

/// What was done, and what to do next.
fn describe(set: &CertificateSet) -> String {
    let dir = set.dir.display();
    let names: Vec<&str> = set.names.iter().map(String::as_str).collect();
    format!(
        "\
{:<8} {dir}/ca.crt, ca.key          (keep the key private)
{:<8} {dir}/server.crt, server.key  for {}

In pullgate.toml:
    tls = {{ certificate = \"{dir}/server.crt\", key = \"{dir}/server.key\" }}

Clients must trust ca.crt. With the gate at GATE:5000:
    containerd  cp {dir}/ca.crt /etc/pullgate/ca.crt, which hosts.toml names (docs/clients.md)
    docker      cp {dir}/ca.crt /etc/docker/certs.d/GATE:5000/ca.crt
    podman      cp {dir}/ca.crt /etc/containers/certs.d/GATE:5000/ca.crt
    curl        curl --cacert {dir}/ca.crt https://GATE:5000/v2/
This CA is for development; see certs/README.md.
",
        verb(set.ca),
        verb(set.server),
        names.join(", ")
    )
}

fn verb(state: CertificateState) -> &'static str {
    match state {
        CertificateState::Kept => "kept",
        CertificateState::Made => "made",
        CertificateState::Renewed => "renewed",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct InitCommand {
        #[command(flatten)]
        init: InitArgs,
    }

    #[test]
    fn arguments() {
        let arguments = ["x", "--name", "a.example", "--name", "b.example", "--days", "30"];
        let InitArgs { dir, names, days, .. } = InitCommand::try_parse_from(arguments).unwrap().init;
        assert_eq!((names.len(), days, dir.to_str()), (2, 30, Some("certs")));
        assert!(InitCommand::try_parse_from(["x", "--days", "0"]).is_err());
    }

    #[test]
    fn the_output_ends_with_a_hint() {
        let set = CertificateSet {
            dir: "/c".into(),
            ca: CertificateState::Kept,
            server: CertificateState::Renewed,
            names: ["a.example".to_owned()].into(),
        };
        let text = describe(&set);
        assert!(text.starts_with("kept     /c/ca.crt") && text.contains("renewed  /c/server.crt"), "{text}");
        assert!(text.contains("docker      cp /c/ca.crt"), "{text}");
        let foreign = PkiError::Foreign { path: "/c/server.crt".into() };
        assert!(hint(&foreign).contains("--force"));
    }
}
