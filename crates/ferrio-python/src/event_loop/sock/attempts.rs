//! A system call that is tried until it does not block.

use std::os::fd::RawFd;

use ferrio::engine::Direction;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, intern};

use super::check;
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::event_loop::EventLoop;
use crate::ffi::call::method0;

/// What came of an attempt.
pub(super) enum Tried<'py> {
    Done(Bound<'py, PyAny>),
    /// The kernel would have blocked: it tells when it no longer would.
    Blocked,
    /// Somebody else said so, or a part was done: the kernel may be ready all the same.
    Again,
}

pub(super) type Attempt<'py> = PyResult<Tried<'py>>;

/// A call on a socket that is tried until it does not block.
pub(super) trait Call: Send + 'static {
    /// What it waits for.
    const DIRECTION: Direction;

    /// Tries once. Can run Python code.
    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py>;

    /// Shows what the call holds to the garbage collector.
    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// The body of a coroutine: attempts until one comes to something.
pub(super) struct Attempts<C: Call> {
    event_loop: Py<EventLoop>,
    socket: Py<PyAny>,
    call: C,
    /// The waiter's number and its descriptor, while there is one.
    waiter: Option<u32>,
    fd: RawFd,
}

impl<C: Call> Attempts<C> {
    #[inline]
    pub(super) fn coroutine<'py>(
        event_loop: &Bound<'py, EventLoop>,
        name: &'static str,
        socket: Bound<'py, PyAny>,
        call: C,
    ) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = event_loop.clone().unbind();
        Coroutine::of(socket.py(), name, Self { event_loop, socket: socket.unbind(), call, waiter: None, fd: -1 })
    }

    /// Waits until the socket is ready; until it becomes so, if it is known not to be.
    fn wait<'py>(&mut self, py: Python<'py>, is_blocked: bool) -> PyResult<Next<'py>> {
        let sock = self.socket.bind(py);
        let fd = method0(sock, intern!(py, "fileno"))?.extract()?;
        let left = is_blocked.then_some(sock);
        let (future, waiter) = EventLoop::begin_wait(self.event_loop.bind(py), fd, C::DIRECTION, left)?;
        (self.waiter, self.fd) = (Some(waiter), fd);
        Ok(Next::Await(future.into_any()))
    }
}

impl<C: Call> Frame for Attempts<C> {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        if self.fd < 0 {
            check(self.event_loop.bind(py), self.socket.bind(py))?;
        } else {
            // If the wait was ended by something else, the drop of this sees to the waiter.
            outcome?;
            // Told, and therefore no longer waiting.
            self.waiter = None;
        }
        match self.call.attempt(self.socket.bind(py))? {
            Tried::Done(result) => Ok(Next::Return(result)),
            Tried::Blocked => self.wait(py, true),
            Tried::Again => self.wait(py, false),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.socket)?;
        self.call.traverse(visit)
    }
}

impl<C: Call> Drop for Attempts<C> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter else { return };
        // None at the end of the interpreter, when no loop runs any more.
        _ = Python::try_attach(|py| {
            EventLoop::remove_waiter(self.event_loop.bind(py), self.fd, C::DIRECTION, waiter);
        });
    }
}

/// The descriptor of a socket whose class has left the method `name` as it was; `None` also if the socket is closed,
/// since its own method has the right words for that.
pub(super) fn plain(sock: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<Option<RawFd>> {
    let py = sock.py();
    let original = asyncio::base_socket_class(py)?.getattr(name)?;
    if !sock.get_type().getattr(name).is_ok_and(|method| method.is(&original)) {
        return Ok(None);
    }
    let fd = method0(sock, intern!(py, "fileno"))?.extract()?;
    Ok((fd >= 0).then_some(fd))
}

/// What a method's result, or its exception for "would block", means.
pub(super) fn tried<'py>(sock: &Bound<'py, PyAny>, result: PyResult<Bound<'py, PyAny>>) -> Attempt<'py> {
    let py = sock.py();
    match result {
        Ok(value) => Ok(Tried::Done(value)),
        Err(error) if is_blocked(py, &error) => {
            Ok(if sock.get_type().is(asyncio::socket_class(py)?) { Tried::Blocked } else { Tried::Again })
        }
        Err(error) => Err(error),
    }
}

pub(super) fn is_blocked(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}
