//! The arguments of `pullgate policy`.

use std::io;
use std::path::PathBuf;

use super::{EXIT_CONFIGURATION, EXIT_FINDINGS, EXIT_OK, SCHEMA, Streams, check, eval, import, match_images};
use crate::cli::{Exit, LineOutput, ScopeArgs, output};
use crate::policy::{EvidenceSources, Settings};
use crate::preflight;
use crate::runtime::Clock;

/// Check and try policy documents. No gate is needed.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// Check documents: print errors and warnings with file:line:column. Exits with 2 if there is an error.
    Check {
        /// The folder of policy documents, or one file.
        #[arg(value_name = "PATH")]
        dir: PathBuf,
        #[command(flatten)]
        settings: SettingsFrom,
        /// The output format.
        #[arg(long, short, value_enum, default_value_t)]
        output: LineOutput,
    },
    /// Show which document and entry win for an image.
    Match {
        /// The folder of policy documents.
        #[arg(long, value_name = "DIR")]
        policies: PathBuf,
        #[command(flatten)]
        scope: ScopeArgs,
        /// The images.
        #[arg(required = true)]
        images: Vec<String>,
        #[command(flatten)]
        settings: SettingsFrom,
        /// The output format.
        #[arg(long, short, value_enum, default_value_t)]
        output: LineOutput,
    },
    /// Turn a containers-policy.json of podman and skopeo into a document, which is printed. What cannot be expressed is
    /// denied, and reported on standard error.
    Import {
        /// The policy: /etc/containers/policy.json.
        file: PathBuf,
        /// The directory that says where signatures are stored: /etc/containers/registries.d.
        #[arg(long, value_name = "DIR")]
        registries_d: Option<PathBuf>,
    },
    /// Decide for given evidence: read one JSON case per line from standard input, print one decision per line.
    Eval {
        /// The folder of policy documents.
        #[arg(long, value_name = "DIR")]
        policies: PathBuf,
        #[command(flatten)]
        settings: SettingsFrom,
    },
    /// Print the JSON Schema of pullgate.io/v1 documents, for editors and CI.
    Schema,
}

/// The configuration that documents are read with.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SettingsFrom {
    /// The configuration file of a gate, for its authorities, defaults, upstreams and sources of evidence.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingsFrom {
    /// How documents are read, and what a gate with the configuration can find out about images.
    fn load(&self) -> Result<(Settings, Option<EvidenceSources>), Exit> {
        let Some(path) = &self.config else { return Ok(Default::default()) };
        let config = crate::cli::config::load(Some(path))?;
        let sources = preflight::evidence_sources(&config);
        Ok((config.policy, Some(sources)))
    }
}

pub(in crate::cli) fn run(command: PolicyCommand) -> Exit {
    let settings = match &command {
        PolicyCommand::Check { settings, .. }
        | PolicyCommand::Match { settings, .. }
        | PolicyCommand::Eval { settings, .. } => settings.load(),
        PolicyCommand::Import { .. } | PolicyCommand::Schema => Ok(Default::default()),
    };
    let (settings, sources) = match settings {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let mut streams = Streams { out: &mut output::stdout(), err: &mut output::stderr() };
    let code = match command {
        PolicyCommand::Check { dir, output, .. } => {
            let settings = Settings { now: Some(Clock::system().now()), ..settings };
            check(&dir, &settings, sources.as_ref(), output.into(), &mut streams)
        }
        PolicyCommand::Match { policies, scope, images, output, .. } => {
            match_images(&policies, &scope.namespace, &images, &settings, sources.as_ref(), output.into(), &mut streams)
        }
        PolicyCommand::Import { file, registries_d } => import(&file, registries_d.as_deref(), &mut streams),
        PolicyCommand::Schema => streams.out.write_all(SCHEMA.as_bytes()).map(|()| EXIT_OK),
        PolicyCommand::Eval { policies, .. } => {
            eval(&policies, &settings, sources.as_ref(), &mut io::stdin().lock(), &mut streams)
        }
    };
    match code {
        Ok(EXIT_OK) => Exit::Ok,
        Ok(EXIT_FINDINGS) => Exit::Denied,
        Ok(EXIT_CONFIGURATION) => Exit::Config,
        Ok(_) => Exit::Failure,
        Err(error) => crate::cli::fail(error),
    }
}
