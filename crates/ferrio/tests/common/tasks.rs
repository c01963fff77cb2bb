//! What the tests of native tasks share: who notes or panics when it is dropped, and a flag that any thread sets.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;

use super::Log;

/// Adds to the log when it is dropped.
pub(crate) struct Note(pub(crate) Log<&'static str>, pub(crate) &'static str);

impl Drop for Note {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

/// Panics when it is dropped.
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("expected by the test");
    }
}

/// Waits for a flag that another thread sets, the plain way: a lock and a waker.
#[derive(Clone, Default)]
pub(crate) struct Flag(Arc<Mutex<(bool, Option<Waker>)>>);

impl Flag {
    pub(crate) fn set(&self) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn waker(&self) -> Waker {
        self.0.lock().unwrap().1.clone().unwrap()
    }
}

pub(crate) fn message(panic: Box<dyn std::any::Any + Send>) -> &'static str {
    panic.downcast_ref::<&str>().unwrap()
}

pub(crate) async fn catch_unwind_async<F: Future + Unpin>(mut future: F) -> thread::Result<F::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| std::pin::Pin::new(&mut future).poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
