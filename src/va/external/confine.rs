//! Runs a program with limits and separated from the rest of the machine, in two steps of processes of their own
//! (`pullgate confine`, which is not meant for people).
//!
//! A process can limit itself without unsafe code, but not its child between `fork` and `exec`. So the gate starts
//! itself as a guard: the guard enters new namespaces and starts itself again; that process sets its limits and becomes
//! the program. The guard ends with the gate, because it reads a pipe that the gate holds open; the program ends with
//! the guard, and with it all processes in its namespace.
//!
//! The namespaces need no privileges where the system lets users create them: no network but an unused loopback
//! interface, no other processes, and mounts that hide the gate's state, with the socket by which it is administered.
//! Capabilities are dropped, so the program cannot undo the mounts.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getegid, geteuid, getrlimit, pidfd_open,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::config::Isolation;
use mounts::HiddenPaths;

pub(super) mod mounts;

/// The name of the command.
pub(super) const COMMAND: &str = "confine";
/// The program that confines: this one, even if its file was replaced.
pub(super) const SELF: &str = "/proc/self/exe";
/// The exit code if the program was not started.
pub(super) const NOT_STARTED: u8 = 125;
/// The maximum number of files that a process may have open.
const MAX_FILES: u64 = 8192;
/// The largest file that a process may write, in bytes: scanners unpack layers.
const MAX_FILE: u64 = 32 << 30;

/// How a program is confined. As arguments of `pullgate confine`.
#[derive(Clone, Debug, Default, Eq, PartialEq, clap::Args)]
pub struct Confinement {
    /// The memory limit of each process, in bytes.
    #[arg(long, value_name = "BYTES")]
    pub(super) memory: Option<u64>,
    /// The processor time of each process, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(super) cpu: Option<u64>,
    /// Enters new namespaces if the system permits it.
    #[arg(long)]
    pub(super) isolate: bool,
    /// Fails if the system does not permit it.
    #[arg(long)]
    pub(super) require: bool,
    /// What the program does not see.
    #[command(flatten)]
    pub(super) paths: HiddenPaths,
    /// Prints how far a program would be isolated, and runs none.
    #[arg(long)]
    pub(super) describe: bool,
    /// The second step.
    #[arg(long)]
    pub(super) inner: bool,
    /// The program and its arguments.
    #[arg(last = true)]
    pub(super) program: Vec<String>,
}

impl Confinement {
    pub(super) fn new(isolation: Isolation) -> Self {
        Self { isolate: isolation != Isolation::Off, require: isolation == Isolation::Required, ..Self::default() }
    }

    /// The arguments of `pullgate` that confine a program in this way.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![COMMAND.to_owned()];
        let mut option = |name: &str, value: Option<String>| {
            arguments.extend(value.into_iter().flat_map(|value| [format!("--{name}"), value]));
        };
        option("memory", self.memory.map(|bytes| bytes.to_string()));
        option("cpu", self.cpu.map(|seconds| seconds.to_string()));
        let paths = self.paths.options();
        arguments.extend(paths.flat_map(|(name, path)| [name.to_owned(), path.display().to_string()]));
        let flags = [
            ("--isolate", self.isolate),
            ("--require", self.require),
            ("--describe", self.describe),
            ("--inner", self.inner),
        ];
        arguments.extend(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag.to_owned()));
        arguments
    }

    /// Runs the command. Returns its exit code.
    pub fn run(&self) -> u8 {
        let ended = match (self.describe, self.inner) {
            (true, _) => self.explain(),
            (false, true) => self.become_program(),
            (false, false) => self.guard(),
        };
        ended.unwrap_or_else(|why| {
            eprintln!("pullgate {COMMAND}: {why}");
            NOT_STARTED
        })
    }

    fn explain(&self) -> Result<u8, String> {
        let told = match (enter(), self.require) {
            (Ok(()), require) => match self.paths.apply() {
                Ok(()) => "isolated: no network, no other processes, the state directory is hidden".to_owned(),
                Err(why) if require => return Err(why),
                Err(why) => format!("not isolated: no network and no other processes, but state is not hidden ({why})"),
            },
            (Err(why), true) => return Err(why),
            (Err(why), false) => format!("not isolated ({why})"),
        };
        println!("{told}");
        Ok(0)
    }

    /// The first step: starts the second one, and ends with it or when standard input ends.
    fn guard(&self) -> Result<u8, String> {
        let entered = if self.isolate { enter().and_then(|()| self.paths.apply()) } else { Ok(()) };
        if self.require {
            entered?;
        }
        let paths = HiddenPaths::default();
        let inner = Self { isolate: false, require: false, inner: true, paths, ..self.clone() };
        let started =
            Command::new(SELF).args(inner.arguments()).arg("--").args(&self.program).stdin(Stdio::null()).spawn();
        let mut child = started.map_err(|error| format!("{SELF}: {error}"))?;
        if !has_ended_first(&child) {
            // The program is killed when this process ends.
            return Ok(NOT_STARTED);
        }
        child.wait().map(exit_code).map_err(|error| error.to_string())
    }

    /// The second step: limits this process, and becomes the program.
    fn become_program(&self) -> Result<u8, String> {
        let wrong = |error: Errno| format!("limits: {error}");
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(wrong)?;
        set_no_new_privs(true).map_err(wrong)?;
        drop_capabilities().map_err(|error| format!("capabilities: {error}"))?;
        let limits = [
            (Resource::Core, Some(0)),
            (Resource::Nofile, Some(MAX_FILES)),
            (Resource::Fsize, Some(MAX_FILE)),
            (Resource::Data, self.memory),
            (Resource::Cpu, self.cpu),
        ];
        for (resource, most) in limits {
            // A limit cannot be raised above the one that this process has.
            let known = getrlimit(resource).maximum;
            let most = most.into_iter().chain(known).min();
            setrlimit(resource, Rlimit { current: most, maximum: most }).map_err(wrong)?;
        }
        let [program, arguments @ ..] = &self.program[..] else { return Err("no program is named".into()) };
        Err(format!("{program}: {}", Command::new(program).args(arguments).exec()))
    }
}

/// Enters new namespaces.
fn enter() -> Result<(), String> {
    let apart = UnshareFlags::NEWNET | UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if unshare(apart | UnshareFlags::NEWUSER).is_ok() {
        return map_user(user, group).map_err(|error| format!("user namespace: {error}"));
    }
    // A privileged process needs no user namespace, but the program must not be able to undo the mounts.
    let known = capabilities(None).map_err(|error| format!("capabilities: {error}"))?;
    if !known.effective.contains(CapabilitySet::SETPCAP) {
        return Err("namespaces: users cannot create them, and capabilities cannot be dropped".into());
    }
    unshare(apart).map_err(|error| format!("namespaces: {error}"))
}

/// Drops all capabilities, including those that root would regain with the next program.
fn drop_capabilities() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            match remove_capability_from_bounding_set(capability) {
                // The kernel does not know it.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Whether a program ends before the gate does, which closes the pipe on standard input and never writes to it. There
/// is no thread for either, because a process that has entered a namespace of processes cannot start one.
fn has_ended_first(child: &Child) -> bool {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Before Linux 5.3, only the end of the program is waited for.
    let Some(Ok(program)) = id.map(|id| pidfd_open(id, PidfdFlags::empty())) else { return true };
    let input = io::stdin();
    let mut events = [PollFd::new(&program, PollFlags::IN), PollFd::new(&input, PollFlags::IN)];
    while matches!(poll(&mut events, None), Err(Errno::INTR)) {}
    !events[0].revents().is_empty()
}

/// rustix deprecates the safe function because of `CLONE_FILES`, which is not used here.
#[expect(deprecated, reason = "none of the flags concerns file descriptors")]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

/// In its namespace, the process keeps its user and group.
fn map_user(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// The code that a shell would report.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
