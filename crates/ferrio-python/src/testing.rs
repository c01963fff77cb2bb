//! What only the tests can want: a native task that talks to Python, Rust futures and coroutines on one loop, in one
//! thread; and loops that send when the turn ends, or the callback, which others do where it is worth it.
//!
//! Only debug builds have it, and the tests run on those. A cargo test of this crate would have to embed an
//! interpreter, and so to be linked with what an extension must not be linked with.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ferrio::engine::{EventLoop, SendTime};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::thread::current_thread;
use crate::futures::Future;
use crate::loop_ref::{LoopCore, LoopRef};

/// When loops that are made now send.
static SEND_TIME: GilCopy<SendTime> = GilCopy::new(SendTime::Measured);

/// Has every loop that is made from now on send when the `"turn"` ends, or the `"callback"`, or when it likes.
#[pyfunction]
#[pyo3(signature = (end))]
pub(crate) fn _defer_sends(py: Python<'_>, end: Option<&str>) -> PyResult<()> {
    let time = match end {
        None => SendTime::Measured,
        Some("callback") => SendTime::CallbackEnd,
        Some("turn") => SendTime::TurnEnd,
        Some(other) => return Err(PyValueError::new_err(format!("no such end: {other}"))),
    };
    SEND_TIME.set(py, time);
    Ok(())
}

/// Makes a loop one for the tests, if they have asked for that.
pub(crate) fn prepare(py: Python<'_>, engine: &EventLoop) {
    engine.set_send_time(SEND_TIME.get(py));
}

/// A native task that answers what it is asked, in order, and writes down in `log` when it comes to what.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(crate) struct _NativeEcho {
    event_loop: Py<LoopCore>,
    log: Py<PyList>,
    inbox: GilCell<Inbox>,
}

#[derive(Default)]
struct Inbox {
    requests: VecDeque<Request>,
    closed: bool,
    waker: Option<Waker>,
}

struct Request {
    value: Py<PyAny>,
    /// Slept before the answer.
    delay: Duration,
    answer: Py<Future>,
}

#[pymethods]
impl _NativeEcho {
    #[new]
    fn __new__(event_loop: Bound<'_, LoopCore>, log: Bound<'_, PyList>) -> PyResult<Py<Self>> {
        let py = log.py();
        let engine = event_loop.get().engine(py).clone();
        let this = Self { event_loop: event_loop.unbind(), log: log.unbind(), inbox: GilCell::default() };
        let this = Py::new(py, this)?;
        // Detached: it ends when it is closed, or with the loop.
        drop(ferrio::spawn_on(&engine, echo(this.clone_ref(py))));
        Ok(this)
    }

    /// A future of what the task answers: the value, `delay` seconds after it came to it.
    #[pyo3(signature = (value, delay=0.0))]
    fn ask<'py>(&self, value: Bound<'py, PyAny>, delay: f64) -> PyResult<Bound<'py, Future>> {
        let py = value.py();
        let answer = Bound::new(py, Future::new(py, LoopRef::Ours(self.event_loop.clone_ref(py)))?)?;
        let delay = Duration::try_from_secs_f64(delay).unwrap_or_default();
        let request = Request { value: value.unbind(), delay, answer: answer.clone().unbind() };
        self.tell(py, |inbox| inbox.requests.push_back(request));
        Ok(answer)
    }

    /// Ends the task when it has answered.
    fn close(&self, py: Python<'_>) {
        self.tell(py, |inbox| inbox.closed = true);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.log)
    }
}

impl _NativeEcho {
    fn tell(&self, py: Python<'_>, f: impl FnOnce(&mut Inbox)) {
        let waker = self.inbox.with(py, |inbox| {
            f(inbox);
            inbox.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_request(&self, py: Python<'_>, cx: &Context<'_>) -> Poll<Option<Request>> {
        self.inbox.with(py, |inbox| match inbox.requests.pop_front() {
            Some(request) => Poll::Ready(Some(request)),
            None if inbox.closed => Poll::Ready(None),
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }

    fn write(&self, py: Python<'_>, what: &str, value: &Py<PyAny>) -> PyResult<()> {
        self.log.bind(py).append((what, value, current_thread()))
    }
}

async fn echo(this: Py<_NativeEcho>) {
    while let Some(request) = poll_fn(|cx| Python::attach(|py| this.get().poll_request(py, cx))).await {
        let begun = Python::attach(|py| this.get().write(py, "begins", &request.value));
        if !request.delay.is_zero() {
            ferrio::sleep(request.delay).await;
        }
        Python::attach(|py| {
            let answered = begun.and_then(|()| this.get().write(py, "answers", &request.value)).and_then(|()| {
                let answer = request.answer.bind(py);
                if answer.get().is_pending(py) { Future::resolve(answer, request.value.into_bound(py)) } else { Ok(()) }
            });
            if let Err(error) = answered {
                error.write_unraisable(py, None);
            }
        });
    }
}
