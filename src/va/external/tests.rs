use std::path::Path;
use std::time::Duration;

use super::process::{BoundedCommand, ProgramError};
use crate::runtime::Tasks;

fn shell(folder: &Path, script: &str, timeout: Duration) -> BoundedCommand {
    BoundedCommand {
        launcher: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("GIVEN".into(), "yes".into())],
        folder: folder.to_owned(),
        timeout,
    }
}

#[tokio::test]
async fn only_the_whole_output_of_a_program_that_succeeded_counts() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let run = async |script: &str| shell(folder.path(), script, Duration::from_secs(10)).output(&tasks).await;
    assert_eq!(run("echo out; echo err >&2").await.unwrap(), b"out\n");
    assert_eq!(run("env | grep -v -e '^PWD=' -e '^_=' -e '^OLDPWD=' -e '^SHLVL='").await.unwrap(), b"GIVEN=yes\n");
    let folder_name = folder.path().canonicalize().unwrap().display().to_string();
    assert_eq!(String::from_utf8(run("pwd -P").await.unwrap()).unwrap().trim(), folder_name);
    let failed = run("echo out; echo one >&2; printf 'two\\033' >&2; exit 3").await.unwrap_err().to_string();
    assert_eq!(failed, "it failed (exit code 3): one | two\\u{1b}");
    let confined = run("echo why >&2; exit 125").await.unwrap_err().to_string();
    assert_eq!(confined, "it cannot be started: why");
    let noisy = run("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1").await.unwrap_err().to_string();
    assert!(noisy.len() < 400, "{}", noisy.len());
    // What is left behind does not delay the output.
    assert_eq!(run("sleep 1000 & echo out").await.unwrap(), b"out\n");
}

#[tokio::test]
async fn a_program_ends_with_its_time_and_with_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let late = shell(folder.path(), "sleep 1000", Duration::from_millis(200)).output(&tasks).await;
    assert!(matches!(late, Err(ProgramError::Late(_))), "{late:?}");
    let missing = BoundedCommand { launcher: "/no/such".into(), ..shell(folder.path(), "", Duration::from_secs(1)) };
    assert!(matches!(missing.output(&tasks).await, Err(ProgramError::Start(_))));
    let command = shell(folder.path(), "sleep 1000", Duration::from_secs(100));
    let (stopped, ()) = tokio::join!(command.output(&tasks), async { tasks.stop() });
    assert!(matches!(stopped, Err(ProgramError::Stopping)), "{stopped:?}");
}
