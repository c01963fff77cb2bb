//! What both kinds of pipe transports have.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ferrio::engine::{Direction, Flow};
use ferrio::net::{PipeKind, pipe};
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};

use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::descriptor::borrow;
use crate::ffi::runnable::{Job, runnable};
use crate::futures::Future;
use crate::loop_ref::LoopCore;
use crate::os_error::{os_error, os_error_of};
use crate::transports::protocol::Protocol;
use crate::transports::source::Source;
use crate::transports::transport::{DescriptorTransport, Transport, give_descriptor_back};
use crate::transports::{callback, log};

/// What a pipe transport is made of.
pub(crate) struct NewPipe<'py> {
    pub(crate) core: &'py Bound<'py, LoopCore>,
    /// The object with a `fileno()` and a `close()`.
    pub(crate) pipe: Bound<'py, PyAny>,
    pub(crate) protocol: Bound<'py, PyAny>,
    pub(crate) context: Py<PyAny>,
    /// Gets the transport and the protocol once `connection_made` has been called.
    pub(crate) waiter: Option<Py<Future>>,
}

/// One end of a pipe, in the hands of a transport.
pub(super) struct End {
    core: Py<LoopCore>,
    /// What the protocol's methods are called in.
    context: Py<PyAny>,
    pipe: Py<PyAny>,
    /// Of the pipe's descriptor, or of the duplicate.
    pub(super) source: Source,
    duplicate: GilCell<Option<OwnedFd>>,
    pub(super) protocol: Protocol,
    pub(super) flags: GilCopy<Flags>,
    waiter: GilCell<Option<Py<Future>>>,
    /// What `connection_lost` will be given.
    failure: GilCell<Option<Py<PyAny>>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// The pipe is closed.
    pub(super) closed: bool,
    /// `connection_made` has been called.
    pub(super) begun: bool,
    /// `close()` was called, or something ended the connection.
    pub(super) closing: bool,
    /// `connection_lost` is queued, or has been called.
    pub(super) lost: bool,
    /// `pause_reading()` was called last.
    pub(super) paused: bool,
}

/// A transport that has one end of a pipe.
pub(super) trait PipeTransport: DescriptorTransport {
    fn end<'a>(this: &'a Bound<'_, Self>) -> &'a End;

    /// Watches what is to be watched from the beginning on.
    fn start(this: &Bound<'_, Self>) -> PyResult<()>;
}

impl<T: PipeTransport> Transport for T {
    fn parties<'a, 'py>(this: &'a Bound<'py, Self>) -> (&'a Bound<'py, LoopCore>, &'a Protocol) {
        let end = T::end(this);
        (end.core(this.py()), &end.protocol)
    }
}

/// A transport that has been made: `connection_made`.
struct Begin<T>(PhantomData<T>);

impl<T: PipeTransport> Job for Begin<T> {
    type Class = T;

    fn run(this: &Bound<'_, T>) -> Flow {
        run(this, || begin(this))
    }
}

/// A transport whose connection is lost.
struct Lost<T>(PhantomData<T>);

impl<T: PipeTransport> Job for Lost<T> {
    type Class = T;

    fn run(this: &Bound<'_, T>) -> Flow {
        run(this, || connection_lost(this))
    }
}

/// Runs `f` as a callback of the loop on behalf of a transport.
pub(super) fn run<T: PipeTransport>(this: &Bound<'_, T>, f: impl FnOnce() -> PyResult<()>) -> Flow {
    let (py, end) = (this.py(), T::end(this));
    callback::run(end.core(py), end.context.bind(py), this.as_any(), f)
}

impl End {
    /// Takes the pipe, which must be one of `kinds`.
    ///
    /// # Errors
    ///
    /// `ValueError` with `refusal` if it is not; what the pipe's `fileno()` raises; `RuntimeError` if the loop is
    /// closed. The pipe is still the caller's then.
    pub(super) fn new(new: NewPipe<'_>, refusal: &'static str) -> PyResult<(Self, PipeKind)> {
        let py = new.core.py();
        let core = new.core.get();
        core.check_open(py)?;
        let number: RawFd = new.pipe.call_method0(intern!(py, "fileno"))?.extract()?;
        if number < 0 {
            return Err(os_error_of(py, libc::EBADF));
        }
        let raise = |error| os_error(py, &error);
        let Some(kind) = pipe::kind(borrow(number)).map_err(raise)? else {
            return Err(PyValueError::new_err(refusal));
        };
        let duplicate = match core.descriptors().transport_of(py, number) {
            Some(_) => Some(pipe::duplicate(borrow(number)).map_err(raise)?),
            None => None,
        };
        let fd = duplicate.as_ref().map_or(number, AsRawFd::as_raw_fd);
        pipe::set_nonblocking(borrow(fd)).map_err(raise)?;
        let end = Self {
            core: new.core.clone().unbind(),
            context: new.context,
            pipe: new.pipe.unbind(),
            source: Source::new(py, core, fd)?,
            duplicate: GilCell::new(duplicate),
            protocol: Protocol::new(new.protocol.unbind()),
            flags: GilCopy::new(Flags::default()),
            waiter: GilCell::new(new.waiter),
            failure: GilCell::default(),
        };
        Ok((end, kind))
    }

    #[inline]
    pub(super) fn core<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, LoopCore> {
        self.core.bind(py)
    }

    #[inline]
    pub(super) fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Flags)) {
        let mut flags = self.flags.get(py);
        change(&mut flags);
        self.flags.set(py, flags);
    }

    /// Has the reactor queue the transport as `J` when it is ready in `direction`, unless it does.
    pub(super) fn watch<J: Job>(&self, direction: Direction, this: &Bound<'_, J::Class>) -> PyResult<()> {
        self.source.watch::<J>(self.core(this.py()), direction, this)
    }

    /// Ends the watch in `direction`, if there is one.
    pub(super) fn unwatch(&self, py: Python<'_>, direction: Direction) {
        self.source.unwatch(self.core(py), direction);
    }

    /// Gives the descriptor back, its registration first: the number may have another owner right afterwards.
    pub(super) fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        if self.flags.get(py).closed {
            return Ok(());
        }
        self.change(py, |flags| flags.closed = true);
        give_descriptor_back(self.core(py), &self.source);
        drop(self.duplicate.take(py));
        self.pipe.bind(py).call_method0(intern!(py, "close")).map(drop)
    }

    /// The value that goes by `name`, or `default`.
    pub(super) fn extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = name.py();
        Ok(if name.eq(intern!(py, "pipe"))? { Some(self.pipe.bind(py).clone()) } else { default })
    }

    /// The parts of a `repr`; `watched` and `more` are for an open pipe.
    pub(super) fn describe(&self, py: Python<'_>, class: &str, watched: bool, more: Option<String>) -> String {
        let flags = self.flags.get(py);
        let mut words = vec![class.to_owned()];
        if flags.closed {
            words.push("closed".to_owned());
        } else if flags.closing {
            words.push("closing".to_owned());
        }
        words.push(format!("fd={}", self.source.number()));
        match flags.closed {
            true => words.push("closed".to_owned()),
            false if self.core(py).get().closed.get(py) => words.push("open".to_owned()),
            false => {
                words.push(if watched { "polling" } else { "idle" }.to_owned());
                words.extend(more);
            }
        }
        format!("<{}>", words.join(" "))
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        visit.call(&self.pipe)?;
        self.protocol.traverse(visit)?;
        self.waiter.traverse(visit, |waiter, visit| visit.call(waiter))?;
        self.failure.traverse(visit, |failure, visit| visit.call(failure))
    }

    pub(super) fn clear(&self, py: Python<'_>) {
        self.protocol.set(py, None);
        drop((self.waiter.take(py), self.failure.take(py)));
    }
}

/// Writes down who has the descriptor, and queues the transport's beginning.
pub(super) fn open<T: PipeTransport>(this: &Bound<'_, T>) -> PyResult<()> {
    let (py, end) = (this.py(), T::end(this));
    T::take_descriptor(this, &end.source)?;
    end.core(py).get().push(py, runnable::<Begin<T>>(this.clone().unbind()));
    Ok(())
}

fn begin<T: PipeTransport>(this: &Bound<'_, T>) -> PyResult<()> {
    let (py, end) = (this.py(), T::end(this));
    let protocol = end.protocol.get(py);
    let made = T::tell_made(this);
    end.change(py, |flags| flags.begun = true);
    let started = if end.flags.get(py).closing { Ok(()) } else { T::start(this) };
    let started = started.or_else(|error| T::fatal_error(this, error, "Fatal error on pipe transport"));
    T::tell_waiter_of_beginning(this, protocol, end.waiter.take(py))?;
    made.and(started)
}

/// Ends the connection now, and queues the protocol's last call.
pub(super) fn lose<T: PipeTransport>(this: &Bound<'_, T>, failure: Option<Py<PyAny>>) -> PyResult<()> {
    let (py, end) = (this.py(), T::end(this));
    if end.flags.get(py).lost {
        return Ok(());
    }
    end.change(py, |flags| (flags.closing, flags.lost) = (true, true));
    end.unwatch(py, Direction::Read);
    end.unwatch(py, Direction::Write);
    drop(end.failure.replace(py, failure));
    let core = end.core(py).get();
    core.admit(py)?;
    core.push(py, runnable::<Lost<T>>(this.clone().unbind()));
    Ok(())
}

/// Tells the protocol, and gives up everything.
fn connection_lost<T: PipeTransport>(this: &Bound<'_, T>) -> PyResult<()> {
    let (py, end) = (this.py(), T::end(this));
    let failure = end.failure.take(py).unwrap_or_else(|| py.None()).into_bound(py);
    let told = T::tell_lost(this, &failure);
    let closed = end.give_up(py);
    end.protocol.set(py, None);
    told.and(closed)
}

/// Logs a message about the transport in debug mode; `error` goes with it.
pub(super) fn log_debug<T: PipeTransport>(this: &Bound<'_, T>, level: &str, message: &str, error: Option<&PyErr>) {
    let (py, end) = (this.py(), T::end(this));
    log::debug(end.core(py), this.as_any(), level, message, error);
}
