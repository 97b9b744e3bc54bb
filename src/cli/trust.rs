//! `pullgate trust status|update`: shows and replaces the trusted roots of Sigstore. Works on files, without a gate; a
//! running gate uses a changed file within a minute.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::Exit;
use super::config::load;
use crate::policy::{RootPart, TrustedRoot};
use crate::runtime::Clock;

/// The largest file, in bytes. Real ones have a few thousand.
const MAX_ROOT: u64 = 256 * 1024;

/// Commands about trusted roots.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TrustCommand {
    /// List the trusted roots with their keys and the times of their validity. Exits with 2 if one cannot be read or has
    /// expired.
    Status(StatusArgs),
    /// Replace a trusted root by a newer file, after checking it.
    Update(UpdateArgs),
}

/// Lists trusted roots.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// The files; by default, `trust.trusted_roots` of the configuration.
    files: Vec<PathBuf>,
    /// The configuration file.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Replaces a trusted root.
#[derive(Args, Debug)]
pub(super) struct UpdateArgs {
    /// The new trusted root: a file written by `cosign trusted-root create` or `gh attestation trusted-root`.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The file to replace; by default, the only one in `trust.trusted_roots` of the configuration.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The configuration file.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(command: &TrustCommand) -> Exit {
    let now = Clock::system().now();
    match command {
        TrustCommand::Status(args) => {
            let files = match &args.files[..] {
                [] => match configured(args.config.as_deref()) {
                    Ok(files) => files,
                    Err(exit) => return exit,
                },
                files => files.to_vec(),
            };
            status(&files, now)
        }
        TrustCommand::Update(args) => {
            let to = match (&args.to, configured_for(args)) {
                (Some(to), _) => to.clone(),
                (None, Ok(to)) => to,
                (None, Err(exit)) => return exit,
            };
            match update(&args.from, &to, now) {
                Ok(said) => {
                    println!("{said}");
                    Exit::Ok
                }
                Err(why) => super::fail(why),
            }
        }
    }
}

fn configured(config: Option<&Path>) -> Result<Vec<PathBuf>, Exit> {
    let files = load(config)?.policy.trusted_roots;
    Ok(files.into_iter().map(PathBuf::from).collect())
}

/// The one file of the configuration, unless another one is named.
fn configured_for(args: &UpdateArgs) -> Result<PathBuf, Exit> {
    if let Some(to) = &args.to {
        return Ok(to.clone());
    }
    match &configured(args.config.as_deref())?[..] {
        [only] => Ok(only.clone()),
        files => Err(super::fail(format!("trust.trusted_roots names {} files: choose one with --to", files.len()))),
    }
}

fn status(files: &[PathBuf], now: Timestamp) -> Exit {
    if files.is_empty() {
        println!("no trusted root is configured: keyless signatures cannot be verified");
    }
    let mut exit = Exit::Ok;
    for file in files {
        match read(file) {
            Ok(root) => {
                print!("{}", describe(&root, now));
                if root.has_expired(now) {
                    exit = Exit::Denied;
                }
            }
            Err(why) => {
                println!("{why}");
                exit = Exit::Denied;
            }
        }
    }
    exit
}

/// A root with its keys: one line for each, after one for the root.
fn describe(root: &TrustedRoot, now: Timestamp) -> String {
    let state = match root.until() {
        Some(until) if until < now => format!("EXPIRED since {until}: signatures are not verified with it"),
        Some(until) => format!("ends at {until}, in {}", days(until, now)),
        None => "has no end".to_owned(),
    };
    let newest = root.newest_key().map(|from| format!("; its newest key is {} old", days(now, from)));
    let mut text = format!("{}: {state}{}\n", root.name(), newest.unwrap_or_default());
    for RootPart { kind, name, from, until } in root.parts() {
        let time = |time: &Option<Timestamp>| time.map_or("…".to_owned(), |time| time.to_string());
        let note = if until.is_some_and(|until| until < now) { " (ended)" } else { "" };
        text.push_str(&format!("  {kind} {name}: {} to {}{note}\n", time(from), time(until)));
    }
    text
}

fn days(later: Timestamp, earlier: Timestamp) -> String {
    format!("{} days", later.duration_since(earlier).as_hours() / 24)
}

/// Replaces a root by a file that is a usable root, not expired and not older than the one in use. The file is complete
/// when it gets its name.
fn update(from: &Path, to: &Path, now: Timestamp) -> Result<String, String> {
    let new = read(from)?;
    if new.has_expired(now) {
        return Err(format!("{}: all of its keys have expired", from.display()));
    }
    let old = if to.exists() { Some(read(to)?) } else { None };
    if let Some(old) = &old {
        if *old == new {
            return Ok(format!("{} is up to date", to.display()));
        }
        if new.newest_key() < old.newest_key() {
            let hint = "remove it first if that is intended";
            return Err(format!("{} is older than {}; {hint}", from.display(), to.display()));
        }
    }
    let error = |error: io::Error| format!("{}: {error}", to.display());
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(error)?;
    file.write_all(&bytes(from)?).and_then(|()| file.as_file().sync_all()).map_err(error)?;
    // Readable for the gate, which may run as another user. There is nothing secret in it.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(error)?;
    file.persist(to).map_err(|failed| error(failed.error))?;
    Ok(format!("{} {}", if old.is_some() { "replaced" } else { "wrote" }, to.display()))
}

fn read(path: &Path) -> Result<TrustedRoot, String> {
    let name = path.display().to_string();
    TrustedRoot::from_json(&name, &bytes(path)?).map_err(|why| format!("{name} {why}"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let error = |error: io::Error| format!("{}: {error}", path.display());
    let mut content = Vec::new();
    File::open(path).map_err(error)?.take(MAX_ROOT + 1).read_to_end(&mut content).map_err(error)?;
    if content.len() as u64 > MAX_ROOT {
        return Err(format!("{}: larger than {MAX_ROOT} bytes", path.display()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT};

    use super::*;

    /// The public root with all validity of keys beginning and ending with these years.
    fn root(from: &str, until: &str) -> String {
        let mut root: serde_json::Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
        let window =
            serde_json::json!({"start": format!("{from}-01-01T00:00:00Z"), "end": format!("{until}-01-01T00:00:00Z")});
        for list in ["tlogs", "ctlogs"] {
            root[list].as_array_mut().unwrap().iter_mut().for_each(|log| log["publicKey"]["validFor"] = window.clone());
        }
        for list in ["certificateAuthorities", "timestampAuthorities"] {
            root[list].as_array_mut().unwrap().iter_mut().for_each(|one| one["validFor"] = window.clone());
        }
        root.to_string()
    }

    #[test]
    fn roots_are_replaced_by_newer_ones_alone() {
        let folder = tempfile::tempdir().unwrap();
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let [old, new, expired, broken, to] =
            ["old", "new", "expired", "broken", "to"].map(|name| folder.path().join(name));
        std::fs::write(&old, root("2022", "2030")).unwrap();
        std::fs::write(&new, root("2024", "2030")).unwrap();
        std::fs::write(&expired, root("2022", "2025")).unwrap();
        std::fs::write(&broken, "{}").unwrap();
        assert!(update(&old, &to, now).unwrap().starts_with("wrote"));
        assert!(update(&new, &to, now).unwrap().starts_with("replaced"));
        assert!(update(&new, &to, now).unwrap().ends_with("up to date"));
        assert!(update(&old, &to, now).unwrap_err().contains("is older than"));
        assert!(update(&expired, &to, now).unwrap_err().contains("have expired"));
        assert!(update(&broken, &to, now).unwrap_err().contains("is not a trusted root"));
        assert!(update(&folder.path().join("absent"), &to, now).is_err());
        assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(&new).unwrap());
        assert_eq!(status(&[old, new.clone()], now), Exit::Ok);
        assert_eq!(status(&[new, expired.clone()], now), Exit::Denied);
        assert_eq!(status(&[broken], now), Exit::Denied);
        let text = describe(&read(&expired).unwrap(), now);
        assert!(text.contains("EXPIRED since 2025-01-01T00:00:00Z") && text.contains("(ended)"), "{text}");
    }

    #[test]
    fn public_roots_can_be_read_and_have_no_end() {
        for text in [SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT] {
            let root = TrustedRoot::from_json("root", text.as_bytes()).unwrap();
            assert_eq!(root.until(), None);
            assert!(describe(&root, Timestamp::MAX).contains("certificate authority"));
        }
    }
}
