//! Trivy and Grype as programs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::EngineVersion;
use super::config::{Isolation, ProgramConfig, ScannerTool};
use super::confine::Confinement;
use super::confine::mounts::HiddenPaths;
use super::layout::ImageLayout;
use super::no_report::NoReport;
use super::process::BoundedCommand;
use crate::cache::BlobReader;
use crate::runtime::Tasks;
use crate::va::VaSubject;

/// Where programs are searched for if the configuration names no path.
const FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The time limit for asking a program for its version, or for that of its database.
const VERSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Programs use several processors, so their processor time may exceed the time limit by this factor.
const PROCESSORS: u64 = 16;

/// A program that scans images in directories.
pub(in crate::va) struct ScannerProgram {
    config: ProgramConfig,
    timeout: Duration,
    /// The program that confines it.
    launcher: PathBuf,
    /// The path that is hidden from it. Absolute, because the program has another working directory.
    state: PathBuf,
    /// The socket by which the gate is administered.
    admin_socket: Option<PathBuf>,
    /// Where images are written for it.
    scratch: PathBuf,
    tasks: Tasks,
}

impl ScannerProgram {
    pub(in crate::va) fn new(
        config: ProgramConfig,
        timeout: Duration,
        launcher: PathBuf,
        (state, admin_socket): (&Path, Option<&Path>),
        scratch: &Path,
        tasks: Tasks,
    ) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (state, scratch) = (absolute(state), absolute(scratch));
        Self { config, timeout, launcher, state, admin_socket: admin_socket.map(absolute), scratch, tasks }
    }

    /// The versions of the program and of its database. A database that the program itself calls unusable is an error.
    pub(super) async fn version(&self) -> Result<EngineVersion, String> {
        let mut version = match self.config.tool {
            ScannerTool::Trivy => trivy_version(&self.ask(&["version", "--format", "json"]).await?)?,
            ScannerTool::Grype => {
                let program = self.ask(&["version", "--output", "json"]).await?;
                // It fails if the database is invalid.
                grype_version(&program, &self.ask(&["db", "status", "--output", "json"]).await?)?
            }
        };
        version.facts.push(format!("{}: {}", self.config.command.display(), self.isolation().await));
        Ok(version)
    }

    /// How far the program is isolated here, in words.
    async fn isolation(&self) -> String {
        if self.config.isolation == Isolation::Off {
            return "not isolated, as configured: it can use the network".into();
        }
        // The same mounts as for a scan, if the state directory is there and can be written to.
        let folder = tempfile::tempdir_in(&self.state).ok();
        let folder = folder.as_ref().map(tempfile::TempDir::path);
        let confinement = Confinement { describe: true, ..self.confinement(None, folder) };
        let command = BoundedCommand {
            launcher: self.launcher.clone(),
            arguments: confinement.arguments(),
            environment: Vec::new(),
            folder: "/".into(),
            timeout: VERSION_TIMEOUT,
        };
        match command.output(&self.tasks).await {
            Ok(text) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(error) => format!("its isolation is not known: {error}"),
        }
    }

    /// Runs the program with these arguments, without an image.
    async fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let program = find(&self.config.command)?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let confinement =
            Confinement { cpu: Some(VERSION_TIMEOUT.as_secs()), ..self.confinement(None, Some(folder.path())) };
        let own = arguments.iter().copied().chain(self.cache_folder()).map(str::to_owned).collect();
        let command = self.command(&program, &confinement, own, folder.path(), VERSION_TIMEOUT);
        let wrong = |error| format!("{} {}: {error}", program.display(), arguments.join(" "));
        command.output(&self.tasks).await.map_err(wrong)
    }

    /// The option for Trivy's directory, which, unlike other options, all of its commands accept.
    fn cache_folder(&self) -> impl Iterator<Item = &str> {
        let args = self.config.args.iter().map(String::as_str);
        let at = args.clone().position(|arg| arg.starts_with("--cache-dir") && self.config.tool == ScannerTool::Trivy);
        let count = at.map_or(0, |at| if self.config.args[at].contains('=') { 1 } else { 2 });
        args.skip(at.unwrap_or_default()).take(count)
    }

    /// The report about an image, as the program prints it.
    pub(super) async fn scan(&self, reader: &BlobReader, subject: &VaSubject) -> Result<Vec<u8>, NoReport> {
        let program = find(&self.config.command)?;
        let layout = ImageLayout::write(&self.scratch, reader, subject).await?;
        let (image, temporary) = (layout.image(), layout.temporary());
        let cpu = self.timeout.as_secs().max(1).saturating_mul(PROCESSORS);
        let confinement = Confinement { cpu: Some(cpu), ..self.confinement(Some(&image), Some(&temporary)) };
        let command = self.command(&program, &confinement, self.arguments(&image), &temporary, self.timeout);
        let output = command.output(&self.tasks).await;
        // Removing many files takes a while.
        let _ = self.tasks.spawn_blocking(move || drop(layout)).await;
        output.map_err(|error| error.to_string().into())
    }

    fn confinement(&self, image: Option<&Path>, writable: Option<&Path>) -> Confinement {
        let is_hidden = |path: &Path| path != self.state && path.starts_with(&self.state);
        let readable = image.map(Path::to_owned).into_iter().chain(self.databases());
        let paths = HiddenPaths {
            hide: std::iter::once(&self.state).chain(&self.admin_socket).cloned().collect(),
            readable: readable.filter(|path| is_hidden(path) && path.is_dir()).collect(),
            writable: writable.into_iter().filter(|path| is_hidden(path)).map(Path::to_owned).collect(),
        };
        Confinement { memory: Some(self.config.max_memory), paths, ..Confinement::new(self.config.isolation) }
    }

    /// Where the program may have its databases.
    fn databases(&self) -> impl Iterator<Item = PathBuf> {
        let named = self.cache_folder().last().map(|text| text.rsplit('=').next().unwrap_or_default().into());
        let variables = self.environment(Path::new("/"));
        let usual = Path::new(".cache").join(self.config.tool.as_str());
        let of_variables = variables.into_iter().filter_map(move |(name, value)| match &*name {
            "TRIVY_CACHE_DIR" | "GRYPE_DB_CACHE_DIR" => Some(PathBuf::from(value)),
            "HOME" => Some(Path::new(&value).join(&usual)),
            _ => None,
        });
        named.into_iter().chain(of_variables)
    }

    fn command(
        &self,
        program: &Path,
        confinement: &Confinement,
        arguments: Vec<String>,
        folder: &Path,
        timeout: Duration,
    ) -> BoundedCommand {
        let mut all = confinement.arguments();
        all.extend(["--".to_owned(), program.display().to_string()]);
        all.extend(arguments);
        BoundedCommand {
            launcher: self.launcher.clone(),
            arguments: all,
            environment: self.environment(folder),
            folder: folder.to_owned(),
            timeout,
        }
    }

    /// The arguments for an image in a directory. Those of the configuration come first, so these take precedence.
    ///
    /// Trivy keeps what it found in a layer by the digest that the image's configuration states, without a comparison
    /// with the layer. Anyone can state the digest of another layer, so nothing is kept from one image to the next.
    fn arguments(&self, image: &Path) -> Vec<String> {
        let image = image.display().to_string();
        let timeout = format!("{}s", self.timeout.as_secs().max(1));
        let target = format!("oci-dir:{image}");
        let own: Vec<&str> = match self.config.tool {
            ScannerTool::Trivy => vec![
                "--input",
                &image,
                "--format",
                "json",
                "--quiet",
                "--scanners",
                "vuln",
                "--list-all-pkgs",
                "--show-suppressed",
                "--skip-db-update",
                "--skip-java-db-update",
                "--offline-scan",
                "--cache-backend",
                "memory",
                "--timeout",
                &timeout,
            ],
            ScannerTool::Grype => vec!["--output", "json", "--quiet", &target],
        };
        let command = (self.config.tool == ScannerTool::Trivy).then(|| "image".to_owned());
        let given = self.config.args.iter().cloned();
        command.into_iter().chain(given).chain(own.into_iter().map(str::to_owned)).collect()
    }

    fn environment(&self, temporary: &Path) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = [
            ("PATH", FOLDERS),
            ("LANG", "C.UTF-8"),
            ("TRIVY_SKIP_VERSION_CHECK", "true"),
            ("TRIVY_DISABLE_TELEMETRY", "true"),
            ("GRYPE_CHECK_FOR_APP_UPDATE", "false"),
            ("GRYPE_DB_AUTO_UPDATE", "false"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.push(("TMPDIR".into(), temporary.display().to_string()));
        // Both keep their databases below the home directory by default.
        variables.extend(std::env::var("HOME").ok().map(|home| ("HOME".to_owned(), home)));
        for variable in &self.config.environment {
            match variable.split_once('=') {
                Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
                None => variables.extend(std::env::var(variable).ok().map(|value| (variable.clone(), value))),
            }
        }
        variables
    }
}

/// The path of a program that can be executed.
///
/// # Errors
/// If there is none.
pub(super) fn find(command: &Path) -> Result<PathBuf, String> {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let name = command.display();
    if command.components().count() > 1 {
        return match command.metadata() {
            Err(error) => Err(format!("{name}: {error}")),
            // The program has another working directory.
            Ok(_) if is_program(command) => std::path::absolute(command).map_err(|error| format!("{name}: {error}")),
            Ok(_) => Err(format!("{name} is not a program that can be executed")),
        };
    }
    let mut places = FOLDERS.split(':').map(|folder| Path::new(folder).join(command));
    places.find(|path| is_program(path)).ok_or_else(|| {
        format!("{name} is not installed: none of {FOLDERS} has it; install it, or set `command` to its path")
    })
}

/// `trivy version --format json`.
fn trivy_version(output: &[u8]) -> Result<EngineVersion, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Known {
        version: String,
        #[serde(rename = "VulnerabilityDB")]
        database: Option<Database>,
        #[serde(rename = "JavaDB")]
        java: Option<Database>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Database {
        updated_at: Timestamp,
    }
    let known: Known =
        serde_json::from_slice(output).map_err(|error| format!("its version cannot be read: {error}"))?;
    let Some(Database { updated_at }) = known.database else {
        return Err(
            "it has no vulnerability database; run `trivy image --download-db-only` as the user of pullgate".into()
        );
    };
    let java = known.java.map(|java| java.updated_at);
    let mut facts = vec![format!("trivy {}", known.version), format!("vulnerability database of {updated_at}")];
    facts.extend(java.map(|at| format!("Java database of {at}")));
    let database =
        [Some(updated_at), java].into_iter().flatten().map(|at| at.to_string()).collect::<Vec<_>>().join(" ");
    Ok(EngineVersion { program: format!("trivy {}", known.version), database, built: Some(updated_at), facts })
}

/// `grype version --output json` and `grype db status --output json`.
fn grype_version(program: &[u8], status: &[u8]) -> Result<EngineVersion, String> {
    #[derive(Deserialize)]
    struct Known {
        version: String,
    }
    #[derive(Deserialize)]
    struct Status {
        built: Timestamp,
        valid: Option<bool>,
        error: Option<String>,
    }
    let wrong = |error: serde_json::Error| format!("its version cannot be read: {error}");
    let Known { version } = serde_json::from_slice(program).map_err(wrong)?;
    let Status { built, valid, error } = serde_json::from_slice(status).map_err(wrong)?;
    if valid == Some(false) || error.as_deref().is_some_and(|error| !error.is_empty()) {
        let why = error.unwrap_or_default();
        return Err(format!("its database is not valid {why}; run `grype db update` as the user of pullgate"));
    }
    let facts = vec![format!("grype {version}"), format!("vulnerability database of {built}")];
    Ok(EngineVersion { program: format!("grype {version}"), database: built.to_string(), built: Some(built), facts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_program_and_of_its_database() {
        let trivy = r#"{"Version":"0.72.0","VulnerabilityDB":{"Version":2,"NextUpdate":"2026-11-26T00:33:00Z",
            "UpdatedAt":"2026-11-25T00:33:00Z","DownloadedAt":"2026-11-25T08:00:00Z"}}"#;
        let version = trivy_version(trivy.as_bytes()).unwrap();
        assert_eq!((&*version.program, &*version.database), ("trivy 0.72.0", "2026-11-25T00:33:00Z"));
        assert_eq!(version.built, Some("2026-11-25T00:33:00Z".parse().unwrap()));
        assert!(trivy_version(br#"{"Version":"0.72.0"}"#).unwrap_err().contains("--download-db-only"));
        assert!(trivy_version(b"0.72.0").is_err());

        let program = br#"{"application":"grype","version":"0.121.2","supportedDbSchema":6}"#;
        let status =
            br#"{"schemaVersion":"v6.1.9","from":"https://x","built":"2026-11-25T04:05:06Z","path":"/x","valid":true}"#;
        let version = grype_version(program, status).unwrap();
        assert_eq!((&*version.program, &*version.database), ("grype 0.121.2", "2026-11-25T04:05:06Z"));
        let invalid = br#"{"built":"2026-11-25T04:05:06Z","valid":false,"error":"too old"}"#;
        assert!(grype_version(program, invalid).unwrap_err().contains("too old"));
        assert!(grype_version(program, b"{}").is_err());
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trivy");
        assert!(find(&file).unwrap_err().contains("No such file"));
        std::fs::write(&file, "").unwrap();
        assert!(find(&file).unwrap_err().contains("not a program"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&file), Ok(file));
        assert!(find(Path::new("no-such-scanner")).unwrap_err().contains("not installed"));
        assert_eq!(find(Path::new("sh")), Ok("/usr/bin/sh".into()));
    }
}
