//! The arguments of `pullgate policy`.

use std::io;
use std::path::PathBuf;

use super::{EXIT_CONFIGURATION, EXIT_FINDINGS, EXIT_OK, SCHEMA, Streams, check, eval, import, match_images};
use crate::cli::{Exit, LineOutput, ScopeArgs, output};
use crate::config::Config;
use crate::policy::{EvidenceSources, Settings};
use crate::preflight;
use crate::runtime::Clock;

/// Check and try policy documents. No gate is needed.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// Check documents: print errors and warnings with file:line:column. Exits with 2 if there is an error.
    Check {
        /// The folder of policy documents, or one file. Default: `policy.dir` of the configuration.
        #[arg(value_name = "PATH")]
        dir: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingsFrom,
        /// The output format.
        #[arg(long, short, value_enum, default_value_t)]
        output: LineOutput,
    },
    /// Show which document and entry win for an image.
    Match {
        /// The folder of policy documents. Default: `policy.dir` of the configuration.
        #[arg(long, value_name = "DIR")]
        policies: Option<PathBuf>,
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
    /// Convert a containers-policy.json of podman and skopeo to a document, and print it. Requirements that cannot be
    /// expressed become denials, and are reported on standard error.
    Import {
        /// The policy: /etc/containers/policy.json.
        file: PathBuf,
        /// The directory that configures where signatures are stored: /etc/containers/registries.d.
        #[arg(long, value_name = "DIR")]
        registries_d: Option<PathBuf>,
    },
    /// Decide for given evidence: read one JSON case per line from standard input, print one decision per line.
    Eval {
        /// The folder of policy documents. Default: `policy.dir` of the configuration.
        #[arg(long, value_name = "DIR")]
        policies: Option<PathBuf>,
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

/// Documents, and what the configuration of a gate says about them.
struct DocumentsOfGate {
    /// The directory of documents, or one file.
    path: PathBuf,
    /// How documents are read.
    settings: Settings,
    /// What the gate can find out about images.
    sources: Option<EvidenceSources>,
}

impl SettingsFrom {
    /// The documents at a path, or else those that the configuration names.
    fn load(&self, path: Option<PathBuf>) -> Result<DocumentsOfGate, Exit> {
        let path = match (path, &self.config) {
            (Some(path), None) => return Ok(DocumentsOfGate { path, settings: Settings::default(), sources: None }),
            (None, None) if !Config::is_found() => {
                eprintln!("pullgate: name the directory of policies, or a configuration with --config");
                return Err(Exit::Usage);
            }
            (path, _) => path,
        };
        let config = crate::cli::config::load(self.config.as_deref())?;
        let sources = Some(preflight::evidence_sources(&config));
        Ok(DocumentsOfGate { path: path.unwrap_or(config.policy_dir), settings: config.policy, sources })
    }
}

pub(in crate::cli) fn run(command: PolicyCommand) -> Exit {
    run_or_exit(command).unwrap_or_else(|exit| exit)
}

fn run_or_exit(command: PolicyCommand) -> Result<Exit, Exit> {
    let mut streams = Streams { out: &mut output::stdout(), err: &mut output::stderr() };
    let code = match command {
        PolicyCommand::Check { dir, settings, output } => {
            let DocumentsOfGate { path, settings, sources } = settings.load(dir)?;
            let settings = Settings { now: Some(Clock::system().now()), ..settings };
            check(&path, &settings, sources.as_ref(), output.into(), &mut streams)
        }
        PolicyCommand::Match { policies, scope, images, settings, output } => {
            let DocumentsOfGate { path, settings, sources } = settings.load(policies)?;
            match_images(&path, &scope.namespace, &images, &settings, sources.as_ref(), output.into(), &mut streams)
        }
        PolicyCommand::Import { file, registries_d } => import(&file, registries_d.as_deref(), &mut streams),
        PolicyCommand::Schema => streams.out.write_all(SCHEMA.as_bytes()).map(|()| EXIT_OK),
        PolicyCommand::Eval { policies, settings } => {
            let DocumentsOfGate { path, settings, sources } = settings.load(policies)?;
            eval(&path, &settings, sources.as_ref(), &mut io::stdin().lock(), &mut streams)
        }
    };
    Ok(match code {
        Ok(EXIT_OK) => Exit::Ok,
        Ok(EXIT_FINDINGS) => Exit::Denied,
        Ok(EXIT_CONFIGURATION) => Exit::Config,
        Ok(_) => Exit::Failure,
        Err(error) => crate::cli::fail(error),
    })
}
