//! `pullgate serve`.

use std::path::PathBuf;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::Signal;

use super::Exit;
use crate::app::{self, Ended, GateService, InheritedSockets, ServiceEnd, ServiceStart};
use crate::config::Config;
use crate::runtime::{hides_errors, init_telemetry};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The configuration file. Default: ./pullgate.toml, or else /etc/pullgate/pullgate.toml.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the bound addresses as JSON to this file once every listener is open.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Take over from the gate that is running on the same state directory: it hands over its listeners and ends, and
    /// no pull fails. If none is running, start as usual.
    #[arg(long)]
    take_over: bool,
}

pub(super) fn run(args: &ServeArgs) -> Exit {
    let hangups = match early_hangups() {
        Ok(hangups) => hangups,
        Err(error) => return super::fail(format!("cannot handle SIGHUP: {error}")),
    };
    // Before there are threads: it changes the environment.
    let sockets = match InheritedSockets::of_service_manager() {
        Ok(sockets) => sockets,
        Err(error) => return super::fail(error.to_string()),
    };
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::fail(error),
    };
    let config = match runtime.block_on(super::config::load_and_open(args.config.as_deref())) {
        Ok(config) => config,
        Err(error) => return super::fail(error),
    };
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _log = match init_telemetry(&config.log.filter, config.log.format, colour) {
        Ok(guard) => guard,
        Err(error) => return super::fail(error.to_string()),
    };
    if hides_errors(&config.log.filter) {
        // It would hide the warning of itself.
        config.warnings.iter().for_each(|warning| eprintln!("{warning}"));
    }
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    check_open_files(&config);
    let exit = runtime.block_on(serve(config, sockets, hangups, args));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit
}

/// Handles SIGHUP from here on; before, it ends the process. Any number of SIGHUPs during the start cause one reload
/// after it.
fn early_hangups() -> std::io::Result<Signal> {
    // This runtime has no threads and runs nothing. Signals that it does not read are left for the runtime that serves.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _context = runtime.enter();
    app::hangups()
}

/// Raises the limit on open files to the maximum, and warns if it is lower than the connection limits require.
fn check_open_files(config: &Config) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    // One per client, two per download (a file and an upstream connection), one per blob that is streamed through, and
    // some for everything else.
    let wanted = config.limits.max_connections as u64 + 3 * config.cache.max_fills as u64 + 256;
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < wanted) {
        tracing::warn!(
            files,
            wanted,
            "the limit on open files is too low for limits.max_connections; raise LimitNOFILE"
        );
    }
}

async fn serve(mut config: Config, mut sockets: InheritedSockets, mut hangups: Signal, args: &ServeArgs) -> Exit {
    let mut stops = app::signals();
    let mut start = if args.take_over { ServiceStart::TakeOver } else { ServiceStart::Alone };
    loop {
        // A start may take minutes: it waits for another process, or converts the database. If this process is stopped
        // before it converts the database, the gate from which it takes over serves again.
        let built = tokio::select! {
            built = GateService::build(config, sockets, start) => built,
            () = app::stopped(&mut stops) => {
                eprintln!("pullgate: stopped before it served");
                return Exit::Ok;
            }
        };
        let service = match built {
            Ok(service) => service,
            Err(error) => {
                eprintln!("pullgate: {error}");
                return if error.is_configuration() { Exit::Config } else { Exit::Failure };
            }
        };
        if let Some(path) = &args.ready_file
            && let Err(error) = write_ready_file(path, &service)
        {
            return super::fail(format!("{}: cannot write the ready file: {error}", path.display()));
        }
        // Used if this process serves again: it starts before the other one is consumed, so that no signal is lost.
        let next_hangups = match app::hangups() {
            Ok(hangups) => hangups,
            Err(error) => return super::fail(format!("cannot handle SIGHUP: {error}")),
        };
        match service.run(std::mem::replace(&mut hangups, next_hangups), &mut stops).await {
            ServiceEnd::Ended(Ended::Complete) => return Exit::Ok,
            ServiceEnd::Ended(Ended::Cut) => return Exit::Cut,
            ServiceEnd::Returned(same, passed, state) => {
                (config, sockets, start) = (*same, passed, ServiceStart::Again(state));
            }
        }
    }
}

/// Writes to a temporary name and renames, so that readers never see an incomplete file.
fn write_ready_file(path: &std::path::Path, bound: &GateService) -> std::io::Result<()> {
    let listeners: Vec<String> = bound.addresses().iter().map(ToString::to_string).collect();
    let admin = bound.admin_address().to_string();
    let text = serde_json::json!({"listeners": listeners, "admin": admin}).to_string();
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, path)
}
