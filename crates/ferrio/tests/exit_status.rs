//! `exit_status`: waiting for a child process.

#![allow(clippy::zombie_processes, reason = "what is tested reaps them")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::secs;
use ferrio::{exit_status, gather, run, timeout, yield_now};

#[test]
fn it_tells_how_a_child_ended() {
    run(async {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert_eq!(exit_status(&mut child).await.unwrap().code(), Some(7));
        // As often as it is asked.
        assert_eq!(exit_status(&mut child).await.unwrap().code(), Some(7));
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        child.kill().unwrap();
        assert_eq!(exit_status(&mut child).await.unwrap().signal(), Some(9));
    })
    .unwrap();
}

#[test]
fn a_child_that_reads_is_told_of_the_end() {
    run(async {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert!(timeout(secs(20), exit_status(&mut child)).await.unwrap().unwrap().success());
    })
    .unwrap();
}

#[test]
fn who_gives_up_leaves_it_running() {
    run(async {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.take();
        assert!(timeout(secs(0), exit_status(&mut child)).await.is_err());
        assert!(child.try_wait().unwrap().is_none());
        drop(stdin);
        assert!(exit_status(&mut child).await.unwrap().success());
    })
    .unwrap();
}

#[test]
fn many_end_beside_each_other() {
    let codes = run(gather((0..20).map(|code: i32| async move {
        let mut child = Command::new("sh").args(["-c", &format!("exit {code}")]).spawn()?;
        yield_now().await;
        exit_status(&mut child).await.map(|status| status.code())
    })));
    assert_eq!(codes.unwrap().unwrap(), (0..20).map(Some).collect::<Vec<_>>());
}
