//! `EventLoop`: asyncio's loop, on ferrio's engine.
//!
//! The class extends [`LoopCore`], which is what everything else in this crate knows of a loop, by what Python calls.
//! One file a topic, each with its own block of methods:
//!
//! | file | topic |
//! |---|---|
//! | [`run`] | running, stopping, closing |
//! | [`schedule`] | `call_soon` and its family, time |
//! | [`tasks`] | futures and tasks, factories |
//! | [`errors`] | exception handlers, debug mode |
//! | [`asyncgens`] | the hooks for asynchronous generators |
//! | [`executor`] | threads for what blocks |
//! | [`signals`] | signal handlers |
//! | [`fds`] | `add_reader` and its family |
//! | [`readiness`] | coroutines that wait for a descriptor |
//! | [`watched`] | what both are made of: the watched descriptors, and who is told when one is ready |
//! | [`sock`] | the `sock_*` coroutines |
//! | [`sendfile`] | files that the kernel sends |
//! | [`dns`] | names and addresses |
//! | [`connect`] | connections that this side makes |
//! | [`serve`] | servers |
//! | [`tls`] | what TLS is asked for by, and connections that become TLS connections |
//! | [`unix`] | connections and servers over Unix sockets |
//! | [`datagrams`] | datagram sockets |
//! | [`pipes`] | pipes that are given |
//! | [`subprocesses`] | child processes |
//! | [`weak_loop`] | a loop as the body of one of its coroutines knows it |

mod asyncgens;
mod connect;
mod datagrams;
mod dns;
mod errors;
mod executor;
mod fds;
mod pipes;
mod readiness;
mod run;
mod schedule;
mod sendfile;
mod serve;
mod signals;
mod sock;
mod subprocesses;
mod tasks;
mod tls;
mod unix;
mod watched;
mod weak_loop;

pub(crate) use schedule::{CallAt, CallLater, CallSoon, CallSoonThreadsafe};
pub(crate) use sock::{SockRecv, SockSendAll};
pub(crate) use tasks::{CreateFuture, CreateTask};

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use ferrio::engine::{self, Clock};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, ffi, intern};

use crate::asyncio;
use crate::classes::readable;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::ffi::newborn;
use crate::ffi::staying::stay;
use crate::handles::Handle;
use crate::loop_ref::LoopCore;

/// The loop. `ferrio.EventLoop` is this class and `asyncio.AbstractEventLoop`.
#[pyclass(frozen, extends = LoopCore, subclass, module = "ferrio._ferrio")]
pub(crate) struct EventLoop {
    stopping: GilCopy<bool>,
    /// The process that made the loop: a fork inherits its descriptors, and must not touch them.
    process: u32,
    task_factory: GilCell<Option<Py<PyAny>>>,
    exception_handler: GilCell<Option<Py<PyAny>>>,
    executor: GilCell<executor::Executor>,
    asyncgens: GilCell<asyncgens::AsyncGens>,
    signal_handlers: GilCell<BTreeMap<i32, Py<Handle>>>,
    watched: GilCell<watched::Watched>,
    /// The interpreter's wake-up descriptor before this loop set its own; none while it has not.
    wakeup_fd: GilCopy<Option<i32>>,
    /// How many frames of a coroutine's origin were remembered before this loop ran in debug mode; none while it does
    /// not.
    saved_origin_depth: GilCopy<Option<i32>>,
}

#[pymethods]
impl EventLoop {
    /// The arguments are those of a subclass's `__init__`, but for one that tests have: `_stepped_clock=True` makes a
    /// loop whose time begins at zero and passes only when the loop would wait for a timer, which it does not.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, _stepped_clock=false, **kwargs))]
    fn __new__(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        _stepped_clock: bool,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let py = class.py();
        if !args.is_empty() || kwargs.is_some_and(|kwargs| !kwargs.is_empty()) {
            check_takes_arguments(class)?;
        }
        stay();
        let clock = if _stepped_clock { Clock::Stepped(Cell::new(0)) } else { Clock::Monotonic };
        let engine = engine::EventLoop::new(clock)?;
        #[cfg(debug_assertions)]
        crate::testing::prepare(py, &engine);
        let core = LoopCore::new(engine, errors::debug_by_default(py)?);
        let asyncgens = asyncgens::AsyncGens::new(py)?;
        newborn::has_dict(py);
        Ok(PyClassInitializer::from(core).add_subclass(Self {
            stopping: GilCopy::new(false),
            process: std::process::id(),
            task_factory: GilCell::default(),
            exception_handler: GilCell::default(),
            executor: GilCell::default(),
            asyncgens: GilCell::new(asyncgens),
            signal_handlers: GilCell::default(),
            watched: GilCell::default(),
            wakeup_fd: GilCopy::new(None),
            saved_origin_depth: GilCopy::new(None),
        }))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let core = slf.as_super().get();
        let word = |value: bool| if value { "True" } else { "False" };
        let class = slf.get_type().name()?;
        let (running, closed, debug) = (core.is_running(py), core.closed.get(py), core.debug.get(py));
        Ok(format!("<{class} running={} closed={} debug={}>", word(running), word(closed), word(debug)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.task_factory.traverse(visit, |factory, visit| visit.call(factory))?;
        self.exception_handler.traverse(visit, |handler, visit| visit.call(handler))?;
        self.executor.traverse(visit, |executor, visit| executor.traverse(visit))?;
        self.asyncgens.traverse(visit, |asyncgens, visit| asyncgens.traverse(visit))?;
        self.signal_handlers.traverse(visit, |handlers, visit| handlers.values().try_for_each(|h| visit.call(h)))?;
        self.watched.traverse(visit, |watched, visit| watched.traverse(visit))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        drop((this.task_factory.take(py), this.exception_handler.take(py), this.executor.take(py)));
        drop(this.signal_handlers.take(py));
        drop(this.watched.take(py));
    }
}

/// Refuses arguments that no `__init__` would take: a selector, for one, that is not used must not look as if it were.
fn check_takes_arguments(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let name = intern!(py, "__init__");
    if class.getattr(name)?.is(&py.get_type::<PyAny>().getattr(name)?) {
        return Err(PyTypeError::new_err(format!("{}() takes no arguments", class.name()?)));
    }
    Ok(())
}

/// Gives the class what programs read although it is private.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    readable::<EventLoop>(
        py,
        &[("_exception_handler", |event_loop| {
            event_loop.call_method0(intern!(event_loop.py(), "get_exception_handler"))
        })],
    )
}

impl EventLoop {
    /// The methods that are `async def` in asyncio.
    pub(crate) const COROUTINE_FUNCTIONS: &[&str] = &[
        "connect_accepted_socket",
        "connect_read_pipe",
        "connect_write_pipe",
        "create_connection",
        "create_datagram_endpoint",
        "create_server",
        "create_unix_connection",
        "create_unix_server",
        "getaddrinfo",
        "getnameinfo",
        "sendfile",
        "shutdown_asyncgens",
        "shutdown_default_executor",
        "sock_accept",
        "sock_connect",
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sock_sendall",
        "sock_sendfile",
        "sock_sendto",
        "start_tls",
        "subprocess_exec",
        "subprocess_shell",
    ];

    /// The transport that reads and writes `fd`, unless it is closing: nobody else may watch the descriptor then.
    fn transport_of(this: &Bound<'_, Self>, fd: i32) -> Option<Py<PyAny>> {
        this.as_super().get().descriptors().transport_of(this.py(), fd)
    }
}

impl Finalize for EventLoop {
    /// A loop that was not closed says so, and closes.
    fn finalize(this: &Bound<'_, Self>) {
        let py = this.py();
        let core = this.as_super().get();
        if core.closed.get(py) || core.is_running(py) {
            return;
        }
        let warned =
            this.repr().and_then(|this_one| asyncio::warn_of(this, &format!("unclosed event loop {this_one}")));
        if let Err(error) = warned.and_then(|()| Self::close(this)) {
            error.write_unraisable(py, Some(this));
        }
    }
}

impl FinalizeFirst for EventLoop {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        !this.as_super().get().closed.get(this.py())
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
