//! Timeouts of native tasks.

mod common;

use std::future::pending;
use std::time::Duration;

use common::tasks::Note;
use common::{Log, SECOND, secs, stepped};
use ferrio::{Aborted, Elapsed, run_on, sleep, timeout, yield_now};

#[test]
fn a_timeout_drops_the_future_before_it_returns() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, async {
        let note = Note(log.clone(), "dropped");
        let slow = async move {
            let _note = note;
            pending::<()>().await;
        };
        assert_eq!(timeout(secs(10), slow).await, Err(Elapsed));
        log.add("after");
    })
    .unwrap();
    assert_eq!(log.take(), ["dropped", "after"]);
    assert_eq!(event_loop.clock().now(), 10 * SECOND);
}

#[test]
fn a_future_in_time_is_not_held_up_by_its_timeout() {
    let event_loop = stepped();
    run_on(&event_loop, async {
        let quick = async {
            sleep(secs(1)).await;
            42
        };
        assert_eq!(timeout(secs(10), quick).await, Ok(42));
    })
    .unwrap();
    assert_eq!(event_loop.clock().now(), SECOND);
}

#[test]
fn when_both_are_due_the_future_wins() {
    let event_loop = stepped();
    run_on(&event_loop, async {
        assert_eq!(timeout(secs(1), sleep(secs(1))).await, Ok(()));
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
        assert_eq!(timeout(Duration::ZERO, yield_now()).await, Ok(()));
        assert_eq!(timeout(Duration::ZERO, pending::<()>()).await, Err(Elapsed));
    })
    .unwrap();
}

#[test]
fn errors_become_io_errors() {
    assert_eq!(std::io::Error::from(Elapsed).kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(std::io::Error::from(Aborted).to_string(), "the task was aborted");
    assert_eq!(Elapsed.to_string(), "the time was up");
}
