//! Which public types may change threads, and which may be seen after a panic.

use std::any::Any;
use std::panic::{RefUnwindSafe, UnwindSafe};

use ferrio::engine::{BlockingTask, LoopHandle, SendRunnable, Wait};
use ferrio::{Aborted, Elapsed, JoinHandle};

const fn is_send<T: Send>() {}
const fn is_sync<T: Sync>() {}
const fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
const fn is_unpin<T: Unpin>() {}

#[test]
fn what_other_threads_hold_is_send() {
    is_send::<LoopHandle>();
    is_sync::<LoopHandle>();
    is_send::<SendRunnable>();
    is_send::<Wait<'_>>();
    is_send::<JoinHandle<u8>>();
    is_sync::<JoinHandle<u8>>();
    is_send::<BlockingTask<u8>>();
}

#[test]
fn errors_convert_to_boxed_ones() {
    let boxed: [Box<dyn std::error::Error + Send + Sync>; 2] = [Box::new(Aborted), Box::new(Elapsed)];
    assert_eq!(boxed.map(|error| error.to_string()), ["the task was aborted", "the time was up"]);
}

#[test]
fn handles_are_unpin_and_unwind_safe() {
    is_unpin::<JoinHandle<Box<dyn Any>>>();
    is_unwind_safe::<LoopHandle>();
    is_unwind_safe::<Aborted>();
    is_unwind_safe::<Elapsed>();
}
