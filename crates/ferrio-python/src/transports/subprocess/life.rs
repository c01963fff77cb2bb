//! From the spawn to the protocol's last call.

use ferrio::engine::{ChildWatch, Flow};
use ferrio::sys::ChildStatus;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyPermissionError, PyProcessLookupError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::popen::popen;
use super::{Pipe, State, SubprocessPipeProtocol, SubprocessTransport};
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::cell::GilCell;
use crate::ffi::context;
use crate::ffi::newborn;
use crate::ffi::raise::raised;
use crate::ffi::runnable::{Job, runnable, send_runnable};
use crate::futures::Future;
use crate::loop_ref::{LoopCore, LoopRef};
use crate::os_error::os_error;
use crate::transports::callback;
use crate::transports::pipe::{NewPipe, ReadPipeTransport, WritePipeTransport};
use crate::transports::protocol::Protocol;
use crate::transports::transport::Transport;

/// What a process is made of.
pub(crate) struct NewSubprocess<'a, 'py> {
    pub(crate) core: &'a Bound<'py, LoopCore>,
    pub(crate) protocol: Bound<'py, PyAny>,
    /// `Popen`'s first argument, and its keywords.
    pub(crate) arguments: &'a Bound<'py, PyAny>,
    pub(crate) keywords: &'a Bound<'py, PyDict>,
}

/// Something that the protocol is to be told.
pub(super) enum Event {
    /// Of one of the process's descriptors.
    Data(usize, Py<PyAny>),
    PipeLost(usize, Py<PyAny>),
    Exited,
    Lost,
}

impl Event {
    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Data(_, object) | Self::PipeLost(_, object) => visit.call(object),
            Self::Exited | Self::Lost => Ok(()),
        }
    }
}

/// What is reported of a process whose status somebody else has.
const UNKNOWN: i32 = 255;

/// A transport that has been made: `connection_made`.
struct Begin;

impl Job for Begin {
    type Class = SubprocessTransport;

    fn run(this: &Bound<'_, SubprocessTransport>) -> Flow {
        SubprocessTransport::run(this, || SubprocessTransport::begin(this))
    }
}

/// A transport that has an event for its protocol.
struct Tell;

impl Job for Tell {
    type Class = SubprocessTransport;

    fn run(this: &Bound<'_, SubprocessTransport>) -> Flow {
        SubprocessTransport::run(this, || SubprocessTransport::tell_next(this))
    }
}

/// A transport whose process has ended.
struct Ended;

impl Job for Ended {
    type Class = SubprocessTransport;

    fn run(this: &Bound<'_, SubprocessTransport>) -> Flow {
        SubprocessTransport::run(this, || SubprocessTransport::ended(this))
    }
}

impl SubprocessTransport {
    fn run(this: &Bound<'_, Self>, f: impl FnOnce() -> PyResult<()>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), f)
    }

    /// Makes a process and its transport, and queues the transport's beginning, of which the future is told.
    ///
    /// # Errors
    ///
    /// What `Popen` raises. What goes wrong once there is a process is told by the future.
    pub(crate) fn spawn<'py>(new: NewSubprocess<'_, 'py>) -> PyResult<(Bound<'py, Self>, Bound<'py, Future>)> {
        let py = new.core.py();
        let core = new.core.get();
        core.check_open(py)?;
        let context = context::copy_current(py)?;
        let beginning = Bound::new(py, Future::new(py, LoopRef::Ours(new.core.clone().unbind()))?)?;
        let process = popen(new.arguments, new.keywords)?;
        let transport = Self {
            core: new.core.clone().unbind(),
            context,
            pid: process.getattr(intern!(py, "pid"))?.extract()?,
            process: process.unbind(),
            protocol: Protocol::new(new.protocol.unbind()),
            state: GilCell::new(State { beginning: Some(beginning.clone().unbind()), ..State::default() }),
        };
        let this = newborn::make(py, transport)?.into_bound(py);
        let logged = Self::log_created(&this, new.arguments);
        let connected = Self::connect_pipes(&this);
        core.push(py, runnable::<Begin>(this.clone().unbind()));
        let watched = Self::watch(&this);
        if let Err(error) = logged.and(connected).and(watched) {
            Self::fail_to_begin(&this, error)?;
        }
        Ok((this, beginning))
    }

    fn connect_pipes(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let process = transport.process.bind(py);
        for (fd, name) in [intern!(py, "stdin"), intern!(py, "stdout"), intern!(py, "stderr")].into_iter().enumerate() {
            let pipe = process.getattr(name)?;
            if pipe.is_none() {
                continue;
            }
            let protocol = Bound::new(py, SubprocessPipeProtocol::new(this.clone().unbind(), fd))?.into_any();
            let (core, context) = (transport.core(py), transport.context.clone_ref(py));
            let new = NewPipe { core, pipe, protocol, context, waiter: None };
            let end = match fd {
                0 => WritePipeTransport::create(new)?.into_any(),
                _ => ReadPipeTransport::create(new)?.into_any(),
            };
            let pipe = Pipe { transport: end.unbind(), connected: true };
            transport.state.with(py, |state| state.pipes[fd] = Some(pipe));
        }
        Ok(())
    }

    fn log_created(this: &Bound<'_, Self>, arguments: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        if !this.get().is_debugged(py) {
            return Ok(());
        }
        // Of a list only the program: the others can be secrets.
        let program = match arguments.is_instance_of::<PyString>() || arguments.is_instance_of::<PyBytes>() {
            true => arguments.clone(),
            false => arguments.get_item(0)?,
        };
        let arguments = ("process %r created: pid %s", program, this.get().pid);
        asyncio::logger(py)?.call_method1(intern!(py, "debug"), arguments).map(drop)
    }

    fn watch(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let work = send_runnable::<Ended>(this.clone().unbind());
        match ChildWatch::new(transport.core(py).get().engine(py), transport.pid, work) {
            Ok(watch) => {
                transport.state.with(py, |state| state.watch = Some(watch));
                Ok(())
            }
            Err(error) => {
                // Nobody would hear of its end.
                let process = transport.process.bind(py);
                process.call_method0(intern!(py, "kill"))?;
                let returncode = process.call_method0(intern!(py, "wait"))?.extract()?;
                transport.state.with(py, |state| state.returncode = Some(returncode));
                Err(os_error(py, &error))
            }
        }
    }

    /// Closes what there is, and has the future raise `error`. The protocol is told of nothing.
    #[cold]
    fn fail_to_begin(this: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        transport.protocol.set(py, None);
        Self::close(this)?;
        let connected = transport.state.with(py, |state| state.pipes.each_ref().map(Option::is_some));
        for (is_connected, name) in connected.into_iter().zip(["stdin", "stdout", "stderr"]) {
            let pipe = transport.process.bind(py).getattr(name)?;
            if !is_connected && !pipe.is_none() {
                pipe.call_method0("close")?;
            }
        }
        let beginning = transport.state.with(py, |state| state.beginning.take());
        match beginning {
            Some(beginning) => Future::reject(beginning.bind(py), raised(py, error).into_any()),
            None => Ok(()),
        }
    }

    fn begin(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        // It has failed if there is nobody to tell.
        let Some(beginning) = transport.state.with(py, |state| state.beginning.take()) else { return Ok(()) };
        let made = Self::tell_made(this);
        if beginning.get().is_pending(py) {
            Future::resolve(beginning.bind(py), py.None().into_bound(py))?;
        }
        made
    }

    /// Has the protocol told of `event`, behind what it is still to be told.
    pub(super) fn tell(this: &Bound<'_, Self>, event: Event) {
        let py = this.py();
        this.get().state.with(py, |state| state.events.push_back(event));
        this.get().core(py).get().push(py, runnable::<Tell>(this.clone().unbind()));
    }

    fn tell_next(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let Some(event) = transport.state.with(py, |state| state.events.pop_front()) else { return Ok(()) };
        let Some(protocol) = transport.protocol.get(py) else { return Ok(()) };
        // What the protocol raises goes to the exception handler.
        match event {
            Event::Data(fd, data) => protocol.call_method1(intern!(py, "pipe_data_received"), (fd, data)).map(drop),
            Event::PipeLost(fd, exc) => protocol.call_method1(intern!(py, "pipe_connection_lost"), (fd, exc)).map(drop),
            Event::Exited => protocol.call_method0(intern!(py, "process_exited")).map(drop),
            Event::Lost => {
                let told = transport.protocol.call1(intern!(py, "connection_lost"), py.None().bind(py));
                transport.state.with(py, |state| state.lost = true);
                transport.protocol.set(py, None);
                told.map(drop)
            }
        }
    }

    pub(super) fn pipe_lost(this: &Bound<'_, Self>, fd: usize, exc: Py<PyAny>) {
        this.get().state.with(this.py(), |state| {
            if let Some(pipe) = &mut state.pipes[fd] {
                pipe.connected = false;
            }
        });
        Self::tell(this, Event::PipeLost(fd, exc));
        Self::try_finish(this);
    }

    fn ended(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let Some(watch) = transport.state.with(py, |state| state.watch.take()) else { return Ok(()) };
        let status = watch.reap().unwrap_or(ChildStatus::Unknown);
        if status == ChildStatus::Running {
            transport.state.with(py, |state| state.watch = Some(watch));
            return Ok(());
        }
        drop(watch.end(transport.core(py).get().engine(py)));
        let process = transport.process.bind(py);
        let known: Option<i32> = process.getattr(intern!(py, "returncode"))?.extract()?;
        let returncode = match (status, known) {
            (ChildStatus::Exited(status), _) => status,
            (ChildStatus::Killed(signal), _) => -signal,
            // `Popen` itself was quicker: somebody polled it.
            (_, Some(known)) => known,
            (_, None) => {
                let text = "child process pid %d exit status already read:  will report returncode 255";
                asyncio::logger(py)?.call_method1(intern!(py, "warning"), (text, transport.pid))?;
                UNKNOWN
            }
        };
        if known.is_none() {
            // Otherwise `Popen` would take the process for a running one, and warn of it.
            process.setattr(intern!(py, "returncode"), returncode)?;
        }
        if transport.is_debugged(py) {
            let arguments = ("%r exited with return code %r", this, returncode);
            asyncio::logger(py)?.call_method1(intern!(py, "info"), arguments)?;
        }
        let waiters = transport.state.with(py, |state| {
            state.returncode = Some(returncode);
            std::mem::take(&mut state.exit_waiters)
        });
        Self::tell(this, Event::Exited);
        Self::try_finish(this);
        for waiter in &waiters {
            let waiter = waiter.bind(py);
            if waiter.get().is_pending(py) {
                Future::resolve(waiter, returncode.into_pyobject(py)?.into_any())?;
            }
        }
        Ok(())
    }

    fn try_finish(this: &Bound<'_, Self>) {
        let finishes = this.get().state.with(this.py(), |state| {
            let is_over = state.returncode.is_some() && !state.pipes.iter().flatten().any(|pipe| pipe.connected);
            is_over && !std::mem::replace(&mut state.finished, true)
        });
        if finishes {
            Self::tell(this, Event::Lost);
        }
    }

    /// Waits for the process's end: its return code.
    pub(crate) fn wait<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Coroutine>> {
        let transport = this.clone().unbind();
        Coroutine::new(this.py(), "BaseSubprocessTransport._wait", async move {
            let exit = Python::attach(|py| Self::exit_waiter(transport.bind(py)))?;
            // The watch for the process's end keeps it, where the collector sees that.
            drop(transport);
            match exit {
                Exit::Told(returncode) => Ok(returncode),
                Exit::Awaited(waiter) => await_(waiter).await,
            }
        })
    }

    fn exit_waiter(this: &Bound<'_, Self>) -> PyResult<Exit> {
        let py = this.py();
        let transport = this.get();
        if let Some(returncode) = transport.state.with(py, |state| state.returncode) {
            return Ok(Exit::Told(returncode.into_pyobject(py)?.into_any().unbind()));
        }
        let waiter = Bound::new(py, Future::new(py, LoopRef::Ours(transport.core.clone_ref(py)))?)?;
        let kept = waiter.clone().unbind();
        let gone = transport.state.with(py, |state| {
            // Those who gave up, each at the next one's coming: a program that polls with a timeout leaves one a time.
            let (waiting, gone): (Vec<_>, Vec<_>) =
                std::mem::take(&mut state.exit_waiters).into_iter().partition(|waiter| waiter.get().is_pending(py));
            state.exit_waiters = waiting;
            state.exit_waiters.push(kept);
            gone
        });
        drop(gone);
        Ok(Exit::Awaited(waiter.into_any().unbind()))
    }

    /// Closes the pipes, and kills the process if it runs.
    pub(crate) fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let (was_closed, pipes) = transport.state.with(py, |state| {
            let pipes: Vec<_> = state.pipes.iter().flatten().map(|pipe| pipe.transport.clone_ref(py)).collect();
            (std::mem::replace(&mut state.closed, true), pipes)
        });
        if was_closed {
            return Ok(());
        }
        // Without a loop there is no next turn in which they could close.
        if !transport.core(py).get().closed.get(py) {
            for pipe in pipes {
                pipe.bind(py).call_method0(intern!(py, "close"))?;
            }
        }
        if transport.state.with(py, |state| state.watch.is_none()) {
            return Ok(());
        }
        if transport.is_debugged(py) {
            let text = "Close running child process: kill %r";
            asyncio::logger(py)?.call_method1(intern!(py, "warning"), (text, this))?;
        }
        match Self::send(this, libc::SIGKILL) {
            // It runs under another user's identity.
            Err(error) if error.is_instance_of::<PyPermissionError>(py) => Ok(()),
            result => result,
        }
    }

    /// Sends a signal, unless the process has ended.
    ///
    /// # Errors
    ///
    /// `ProcessLookupError` once the protocol has been told all; `PermissionError`; `OSError` for what is no signal.
    pub(super) fn send(this: &Bound<'_, Self>, signal: i32) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if transport.state.with(py, |state| state.lost) {
            return Err(PyProcessLookupError::new_err(()));
        }
        if !transport.process.bind(py).getattr(intern!(py, "returncode"))?.is_none() {
            return Ok(());
        }
        let sent = transport.state.with(py, |state| state.watch.as_ref().map_or(Ok(()), |watch| watch.signal(signal)));
        match sent {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(os_error(py, &error)),
            _ => Ok(()),
        }
    }
}

/// Whether there is a return code to tell.
enum Exit {
    Told(Py<PyAny>),
    Awaited(Py<PyAny>),
}
