//! `examples/notebook.rs`, under a clock that jumps.

mod common;
#[path = "../examples/notebook.rs"]
mod notebook;

use std::rc::Rc;

use common::{Log, SECOND, stepped};
use ferrio::run_on;
use notebook::Notebook;

fn notebook(log: &Log<String>) -> Rc<Notebook> {
    let log = log.clone();
    Rc::new(Notebook { print: Box::new(move |line| log.add(line)), scale: 1.0 })
}

#[test]
fn two_tasks_run_beside_each_other() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, notebook(&log).two_tasks()).unwrap().unwrap();
    let lines = log.take();
    // The time of day is the machine's.
    let lines: Vec<_> = lines.iter().map(|line| line.split(" at ").next().unwrap()).collect();
    assert_eq!(lines, ["started", "Task 1: start", "Task 2: start", "Task 1: done", "Task 2: done", "finished"]);
    assert_eq!(event_loop.clock().now(), 2 * SECOND);
}

#[test]
fn the_timeouts_come_when_they_should() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, notebook(&log).timeouts()).unwrap();
    let expected =
        ["The long operation timed out, but we've handled it.", "timeout!", "This statement will run regardless."];
    assert_eq!(log.take(), expected);
    assert_eq!(event_loop.clock().now(), 11_600_000_000);
}
