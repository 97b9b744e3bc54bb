//! The README: the demo, the first denial, and a gate of one's own.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::harness::{Daemon, Machine, Program, program};

/// Settings of podman below the machine's directory, so that it leaves nothing on the system.
fn prepare_podman(machine: &mut Machine) {
    let dir = machine.dir().display().to_string();
    let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{dir}/graph\"\nrunroot = \"{dir}/run\"\n");
    machine.write("storage.conf", &storage);
    machine.write("containers.conf", "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n");
    machine.write(".config/containers/policy.json", "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}");
    machine.write("registries.conf", "");
    for (variable, file) in [
        ("CONTAINERS_STORAGE_CONF", "storage.conf"),
        ("CONTAINERS_CONF", "containers.conf"),
        ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
    ] {
        machine.set(variable, &format!("{dir}/{file}"));
    }
}

/// Starts the demo, and returns it with its configuration.
fn demo(machine: &Machine, address: &str) -> (Daemon, PathBuf) {
    let printed = machine.dir().join("printed");
    let arguments = ["demo", "--listen", address];
    let demo = machine.prepared(Program::daemon(&program(), machine.dir())).args(arguments);
    let mut demo = Daemon::start("demo", demo, &machine.dir().join("log"), Some(&printed));
    let configuration = demo.wait_for(|| {
        let printed = std::fs::read_to_string(&printed).ok()?;
        let all = printed.contains("Ctrl-C").then_some(&printed)?;
        Some(PathBuf::from(all.split("export PULLGATE_CONFIG=").nth(1)?.split_whitespace().next()?))
    });
    (demo, configuration)
}

#[test]
fn the_first_denial_and_a_gate_of_ones_own() {
    let mut machine = Machine::new();
    let (address, admin) = (machine.reserve(), machine.reserve());
    machine.replace("127.0.0.1:5000", address.clone());
    // Nothing outside this machine is asked.
    machine.replace("update = \"12h\"\n", "");
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("config"), machine.dir().join("config")).expect("a link");
    prepare_podman(&mut machine);
    let (running, configuration) = demo(&machine, &address);
    machine.adopt(running, &configuration);
    let mut walk = machine.walk("README.md");
    let podman = walk.take_with("console", "podman pull");
    walk.take_with("elsewhere", "-- demo");
    let configuration = configuration.display().to_string();
    walk.machine.set("PULLGATE_CONFIG", &configuration);
    let policy = walk.take_with("sh", "alias");
    walk.run(&policy);
    let policy = walk.take_with("sh", "kind: ClusterImagePolicy");
    walk.run(&policy);
    walk.run(&podman);
    walk.take_with("elsewhere", "cargo install");
    walk.machine.stop(&configuration);
    walk.machine.unset("PULLGATE_CONFIG");
    walk.machine.set("PULLGATE__ADMIN__ADDRESS", &admin);
    let update = walk.take("elsewhere");
    assert_eq!(update.text, "pullgate db update --config gate/pullgate.toml");
    walk.finish();
    let ready = machine.sh(&format!("curl -s 'http://{admin}/readyz?verbose'")).text();
    assert!(ready.contains("mode: enforce") && ready.contains("[+]policy ok"), "{ready}");
}
