//! An index of advisories that is damaged.

use super::*;

/// The files of this name below a folder.
pub(super) fn files_named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let here = files.into_iter().filter(|path| path.ends_with(name));
    here.chain(folders.iter().flat_map(|folder| files_named(folder, name))).collect()
}

/// A gate that starts with an index of an earlier version, or a damaged one, judges nothing by it, says why everywhere, and
/// goes on as soon as the records are imported again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_starts_with_an_index_that_it_refuses_judges_nothing() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.28"))]));
    // The version follows the magic number; a checksum covers what follows it. A gate sees first that the file has changed.
    let changed = "is damaged or was replaced";
    for (at, problem) in [(8, "import the records again"), (20, "checksum")] {
        let made = TestGate::new(&registry, &policy(SCANNED));
        made.config();
        records(made.path());
        assert!(import(made.path()).status.success());
        for index in files_named(&made.path().join("state"), "osv.index") {
            let mut bytes = fs::read(&index).expect("an index");
            bytes[at] = bytes[at].wrapping_sub(1);
            fs::write(&index, bytes).expect("it is written");
        }
        let config = made.path().join("pullgate.toml");
        let mut status = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        let status = status.args(["db", "status", "--config"]).arg(config).output().expect("it runs");
        assert!(!status.status.success() && text(&status).contains(problem), "{}", text(&status));
        let gate = made.start().await;
        let is_degraded = async {
            while !request("GET", &gate.admin_url("/readyz?verbose=json"), &[]).await.text().contains(changed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(is_degraded).await;
        let answer = gate.get("/team/app/manifests/1").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains(changed), "{}", answer.text());
        let folder = gate.file("");
        let imported = soon(tokio::task::spawn_blocking(move || import(&folder))).await.expect("it ends");
        assert!(imported.status.success(), "{}", text(&imported));
        soon(async { while gate.get("/team/app/manifests/1").await.status != 200 {} }).await;
    }
}
