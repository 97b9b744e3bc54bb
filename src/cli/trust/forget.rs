//! `pullgate trust forget`.

use crate::api::{ForgetRequest, ForgottenRole, path};
use crate::cli::remote::post;
use crate::cli::{Exit, GateArgs, Output};
use crate::runtime::printable;

/// Arguments of `trust forget`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ForgetArgs {
    /// The server and the repository, as `pullgate trust status` names them, for example
    /// `https://notary.acme.com/v2/registry.acme.com/app`.
    repository: String,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &ForgetArgs) -> Exit {
    match post::<Vec<ForgottenRole>>(
        &args.gate,
        path::TRUST_FORGET,
        &ForgetRequest { repository: args.repository.clone() },
    ) {
        Ok(forgotten) => {
            print(args, &forgotten);
            Exit::Ok
        }
        Err(why) => crate::cli::fail(why),
    }
}

fn print(args: &ForgetArgs, forgotten: &[ForgottenRole]) {
    if args.output == Output::Json {
        println!("{}", serde_json::to_string(forgotten).unwrap_or_default());
        return;
    }
    for ForgottenRole { role, version } in forgotten {
        println!("forgot version {version} of {}", printable(role));
    }
    println!(
        "the next documents of {} are accepted whatever their version; the root must be pinned, or is trusted on first use \
         where that is configured",
        printable(&args.repository)
    );
}
