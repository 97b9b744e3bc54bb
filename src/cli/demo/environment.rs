//! The environment of the demo in one process: an upstream with its notary server, advisories, policies and a gate.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::advisories::{self, AdvisoryStore, ImportOptions};
use crate::app;
use crate::config::Config;
use crate::runtime::{Clock, Tasks, create_private_dir};
use crate::sample::{
    Access, Credentials, DemoImage, Listening, NotaryRepository, Package, Registry, SampleDelegation, SigningError,
    demo_images,
};

/// The host name of the embedded upstream.
pub(super) const HOST: &str = "demo.registry";

/// The four combinations of the tutorial's two flags: trust and VA.
pub(super) const FLAGS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// The policy file of the tutorial. Line 13 has the trust flag, and line 15 has the VA flag.
const POLICY: &str = "\
# Cluster Wide Policy .YAML - the tutorial's file
apiVersion: securityenforcement.admission.cloud.ibm.com/v1beta1
kind: ClusterImagePolicy
metadata:
  name: ibmcloud-default-cluster-image-policy
spec:
   repositories:
    # This enforces that all images deployed to this cluster pass trust and VA
    # To override, set an ImagePolicy for a specific Kubernetes namespace or modify this policy
    - name: \"*\"
      policy:
        trust:
          enabled: false
        va:
          enabled: false
";

/// The running environment.
pub(super) struct DemoEnvironment {
    /// Removed with its content when the environment is dropped, even if building it fails.
    folder: TempDir,
    images: Vec<DemoRow>,
    upstream: Listening,
    upstream_tasks: Tasks,
    address: SocketAddr,
    reload: app::Reload,
    stop: Option<oneshot::Sender<()>>,
    gate: JoinHandle<()>,
}

/// A row of the table: one image.
pub(super) struct DemoRow {
    repository: &'static str,
    tag: &'static str,
    signed: bool,
    issues: usize,
}

impl DemoRow {
    pub(super) fn label(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    pub(super) fn path(&self) -> String {
        format!("/v2/{HOST}/{}/manifests/{}", self.repository, self.tag)
    }

    pub(super) fn properties(&self) -> String {
        let signed = if self.signed { "signed" } else { "unsigned" };
        match self.issues {
            0 => format!("{signed}, no issues"),
            1 => format!("{signed}, 1 issue"),
            n => format!("{signed}, {n} issues"),
        }
    }

    /// Whether the image is admitted according to the tutorial.
    pub(super) fn is_admitted(&self, trust: bool, va: bool) -> bool {
        (!trust || self.signed) && (!va || self.issues == 0)
    }
}

impl DemoEnvironment {
    pub(super) async fn build(listen: SocketAddr) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("pullgate-demo-").tempdir();
        let folder = folder.map_err(|error| format!("cannot create a directory for the demo: {error}"))?;
        let path = folder.path();
        fs::create_dir_all(path.join("policies")).map_err(|error| format!("{}: {error}", path.display()))?;
        let images = demo_images();
        let registry = Registry::new();
        let pem = fill_registry(&registry, &images, path)?;
        let upstream_tasks = Tasks::new();
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let upstream = registry.bind(anywhere, &upstream_tasks).await.map_err(|error| error.to_string())?;
        let config = configuration(path, listen, &upstream.url(), &pem)?;
        let bound = app::build(config).await.map_err(|error| error.to_string())?;
        let address = *bound.addresses().first().ok_or("no listener")?;
        let reload = bound.reloader();
        let (stop, stopped) = oneshot::channel();
        let run = async move {
            let stopped = async { drop(stopped.await) };
            bound.run(stopped).await;
        };
        let gate = upstream_tasks.spawn(run);
        let images = images.iter().map(row).collect();
        Ok(Self { folder, images, upstream, upstream_tasks, address, reload, stop: Some(stop), gate })
    }

    pub(super) fn images(&self) -> &[DemoRow] {
        &self.images
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn upstream_url(&self) -> String {
        self.upstream.url()
    }

    pub(super) fn policies(&self) -> PathBuf {
        self.folder.path().join("policies")
    }

    /// The configuration of the gate, for commands.
    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.path().join("pullgate.toml")
    }

    /// Writes the policy with the flags in lines 13 and 15, as the tutorial does with `sed`, and reloads it.
    pub(super) fn set_flags(&self, trust: bool, va: bool) -> Result<(), String> {
        write_policy(self.folder.path(), trust, va)?;
        self.reload.files();
        Ok(())
    }

    /// Stops the gate, then the upstream, and removes all files.
    pub(super) async fn close(mut self) {
        if let Some(stop) = self.stop.take() {
            // Fails only if the gate has already ended.
            let _ = stop.send(());
        }
        let _ = (&mut self.gate).await;
        self.upstream.stop().await;
        self.upstream_tasks.drain(Duration::from_secs(2)).await;
        // Files that cannot be removed are left to the system, like other temporary files.
        let _ = self.folder.close();
    }
}

fn row(image: &DemoImage) -> DemoRow {
    DemoRow { repository: image.repository, tag: image.tag, signed: image.signed, issues: image.outdated().count() }
}

/// Pushes the images, signs the tags of the signed ones with Docker Content Trust, and imports advisories. The
/// registry is the notary server too. Returns the public keys of the roots.
fn fill_registry(registry: &Registry, images: &[DemoImage], folder: &Path) -> Result<String, String> {
    let mut roots = String::new();
    for image in images {
        registry.push(image.repository, Some(image.tag), &image.built);
        if image.signed {
            let repository = sign(image).map_err(|error| error.to_string())?;
            repository.put(registry);
            repository.root.iter().for_each(|key| roots.push_str(key.public_pem()));
        }
        if image.private {
            registry.set_access(image.repository, Access::Basic(Credentials::new("demo", "demo")));
        }
    }
    import_advisories(images, folder)?;
    write_policy(folder, false, false)?;
    fs::write(folder.join("password"), "demo").map_err(|error| error.to_string())?;
    Ok(roots)
}

/// Signs the tag of an image.
fn sign(image: &DemoImage) -> Result<NotaryRepository, SigningError> {
    const RELEASES: &str = "targets/releases";
    let mut repository = NotaryRepository::new(&format!("{HOST}/{}", image.repository))?;
    repository.delegations.push(SampleDelegation::new(RELEASES)?);
    let root = image.built.manifests.iter().find(|manifest| manifest.digest == image.built.root);
    let size = root.map_or(0, |manifest| manifest.bytes.len() as u64);
    repository.sign(RELEASES, image.tag, image.built.root, size);
    repository.publish();
    Ok(repository)
}

fn write_policy(folder: &Path, trust: bool, va: bool) -> Result<(), String> {
    let flag = |number: usize, line: &str| match number {
        13 => line.replace("false", &trust.to_string()),
        15 => line.replace("false", &va.to_string()),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = POLICY.lines().enumerate().map(|(index, line)| flag(index + 1, line)).collect();
    let path = folder.join("policies/default.yaml");
    fs::write(&path, lines.join("\n") + "\n").map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes an OSV record for each package that is outdated in some image, and puts them into use as the gate's advisory
/// database.
fn import_advisories(images: &[DemoImage], folder: &Path) -> Result<(), String> {
    let records = folder.join("advisories");
    fs::create_dir_all(&records).map_err(|error| format!("{}: {error}", records.display()))?;
    let mut outdated: Vec<&Package> = images.iter().flat_map(DemoImage::outdated).collect();
    outdated.sort_by_key(|package| package.source);
    outdated.dedup();
    for (number, package) in outdated.into_iter().enumerate() {
        let id = format!("CVE-2024-{}", 1001 + number);
        let path = records.join(format!("{id}.json"));
        fs::write(&path, record(&id, package).to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let state = folder.join("state");
    create_private_dir(&state).map_err(|error| format!("{}: {error}", state.display()))?;
    let store = AdvisoryStore::open(&state).map_err(|error| error.to_string())?;
    let options = ImportOptions::at(Clock::system().now());
    let imported = advisories::import(&store, &records, &options, &mut |_| ControlFlow::Continue(()));
    imported.map(drop).map_err(|error| error.to_string())
}

/// A record in the format of OSV (ossf.github.io/osv-schema).
fn record(id: &str, package: &Package) -> serde_json::Value {
    json!({
        "schema_version": "1.6.0",
        "id": id,
        "modified": "2026-11-01T00:00:00Z",
        "published": "2026-11-01T00:00:00Z",
        "summary": format!("a flaw in {}, made up for the demo", package.source),
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
        "affected": [{
            "package": {"ecosystem": "Debian:12", "name": package.source},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": package.fixed}]}],
        }],
    })
}

/// Writes the configuration file and loads it.
fn configuration(folder: &Path, listen: SocketAddr, upstream: &str, pem: &str) -> Result<Config, String> {
    fs::write(folder.join("roots.pem"), pem).map_err(|error| error.to_string())?;
    let text = format!(
        "state_dir = \"state\"\n\
         [[listener]]\naddress = \"{listen}\"\n\
         [admin]\naddress = \"127.0.0.1:0\"\n\
         [policy]\ndir = \"policies\"\n\
         [trust]\nnotary_root = \"roots.pem\"\n\
         [[upstream]]\nhost = \"{HOST}\"\nurl = \"{upstream}\"\nserve_to = \"everyone\"\nproxy = \"\"\n\
         notary = \"{upstream}\"\n\
         auth = {{ type = \"basic\", username = \"demo\", password_file = \"password\" }}\n"
    );
    let path = folder.join("pullgate.toml");
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Config::load(Some(&path), std::iter::empty())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
