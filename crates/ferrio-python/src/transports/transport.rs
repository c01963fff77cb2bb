//! What is the same in every transport: how its protocol is told of the beginning, of the end and of room, where it
//! goes what a protocol raises, and what becomes of a transport that fails or is forgotten.

use ferrio::engine::Direction;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyWeakrefReference};
use pyo3::{PyClass, intern};

use super::log;
use super::protocol::Protocol;
use super::source::Source;
use crate::asyncio;
use crate::ffi::raise::{raised, settled};
use crate::futures::Future;
use crate::loop_ref::{LoopCore, try_report};

/// A class of transports.
pub(super) trait Transport: PyClass {
    /// The loop that runs it, and whom it serves.
    fn parties<'a, 'py>(this: &'a Bound<'py, Self>) -> (&'a Bound<'py, LoopCore>, &'a Protocol);

    /// Calls the protocol's `connection_made`. As with asyncio the connection goes on if that fails.
    fn tell_made(this: &Bound<'_, Self>) -> PyResult<()> {
        let (_, protocol) = Self::parties(this);
        let name = intern!(this.py(), "connection_made");
        Self::told(this, name, protocol.call1(name, this.as_any()))
    }

    /// Gives who waits for the beginning the transport, and the protocol that it began with.
    fn tell_waiter_of_beginning<'py>(
        this: &Bound<'py, Self>,
        protocol: Option<Bound<'py, PyAny>>,
        waiter: Option<Py<Future>>,
    ) -> PyResult<()> {
        let py = this.py();
        match waiter {
            Some(waiter) if waiter.get().is_pending(py) => {
                Future::resolve(waiter.bind(py), (this, protocol).into_pyobject(py)?.into_any())
            }
            _ => Ok(()),
        }
    }

    /// Calls the protocol's `pause_writing` or `resume_writing`.
    fn tell_producer<'py>(this: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<()> {
        let (_, protocol) = Self::parties(this);
        Self::told(this, name, protocol.call0(name))
    }

    /// Calls the protocol's `connection_lost` with what has ended the connection, None if nothing failed.
    fn tell_lost(this: &Bound<'_, Self>, failure: &Bound<'_, PyAny>) -> PyResult<()> {
        let (_, protocol) = Self::parties(this);
        let name = intern!(this.py(), "connection_lost");
        Self::told(this, name, protocol.call1(name, failure))
    }

    /// Reports what a method of the protocol's has raised.
    fn told<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        result: PyResult<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<()> {
        match result {
            Ok(_) => Ok(()),
            Err(error) => Self::report(this, &format!("protocol.{name}() failed"), error),
        }
    }

    /// Hands `error` to the loop's exception handler.
    ///
    /// # Errors
    ///
    /// `error` if it leaves the loop.
    #[cold]
    fn report(this: &Bound<'_, Self>, message: &str, error: PyErr) -> PyResult<()> {
        let py = this.py();
        let error = settled(py, error);
        if asyncio::leaves_the_loop(py, &error) {
            return Err(error);
        }
        let (core, protocol) = Self::parties(this);
        let protocol = protocol.get(py).unwrap_or_else(|| py.None().into_bound(py));
        let entries = [
            ("message", PyString::new(py, message).into_any()),
            ("exception", raised(py, error).into_any()),
            ("transport", this.clone().into_any()),
            ("protocol", protocol),
        ];
        try_report(core.as_any(), &entries)
    }
}

/// A transport that has a descriptor.
pub(super) trait DescriptorTransport: Transport {
    /// Whether the descriptor is open.
    fn is_open(this: &Bound<'_, Self>) -> bool;

    /// Closes the descriptor, its registration first: the number may have another owner right afterwards.
    fn give_up(this: &Bound<'_, Self>) -> PyResult<()>;

    /// Ends the connection now: what is buffered is dropped. The protocol is told of `failure` in a later turn.
    fn force_close(this: &Bound<'_, Self>, failure: Option<Py<PyAny>>) -> PyResult<()>;

    /// Whether `error` is of a kind that systems and networks are full of: it is logged in debug mode, and no more.
    fn is_commonplace(py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance_of::<PyOSError>(py)
    }

    /// Ends the connection because of `error`, and tells of it.
    ///
    /// # Errors
    ///
    /// `error` if it leaves the loop.
    #[cold]
    fn fatal_error(this: &Bound<'_, Self>, error: PyErr, message: &'static str) -> PyResult<()> {
        let py = this.py();
        let error = settled(py, error);
        if asyncio::leaves_the_loop(py, &error) {
            return Err(error);
        }
        let failure = error.clone_ref(py).into_value(py).into_any();
        if Self::is_commonplace(py, &error) {
            let (core, _) = Self::parties(this);
            log::debug(core, this.as_any(), "debug", &format!("%r: {message}"), Some(&error));
        } else {
            Self::report(this, message, error)?;
        }
        Self::force_close(this, Some(failure))
    }

    /// Warns of a transport that goes without having been closed, and closes its descriptor.
    fn close_unclosed(this: &Bound<'_, Self>) {
        if !Self::is_open(this) {
            return;
        }
        let warned = log::warn_unclosed(this.as_any());
        if let Err(error) = Self::give_up(this).and(warned) {
            error.write_unraisable(this.py(), Some(this.as_any()));
        }
    }

    /// Writes down who has the descriptor of `source` from now on.
    fn take_descriptor(this: &Bound<'_, Self>, source: &Source) -> PyResult<()> {
        let (core, _) = Self::parties(this);
        let weak = PyWeakrefReference::new(this.as_any())?.unbind();
        core.get().descriptors().insert(this.py(), source.number(), weak);
        Ok(())
    }

    /// The `repr` of a transport over a socket.
    fn describe(this: &Bound<'_, Self>, source: &Source, shown: &Shown) -> PyResult<String> {
        let py = this.py();
        let mut words = vec![this.as_any().get_type().name()?.to_string()];
        if !shown.is_open {
            words.push("closed".to_owned());
        } else if shown.closing {
            words.push("closing".to_owned());
        }
        words.push(format!("fd={}", source.number()));
        let (core, _) = Self::parties(this);
        if shown.is_open && !core.get().closed.get(py) {
            let word = |direction| if source.is_watched(py, direction) { "polling" } else { "idle" };
            words.push(format!("read={}", if shown.paused { "idle" } else { word(Direction::Read) }));
            words.push(format!("write=<{}, bufsize={}>", word(Direction::Write), shown.buffered));
        }
        Ok(format!("<{}>", words.join(" ")))
    }
}

/// What `repr` shows of a transport over a socket, beside its class and descriptor.
pub(super) struct Shown {
    pub(super) is_open: bool,
    pub(super) closing: bool,
    pub(super) paused: bool,
    /// How many bytes wait to be sent.
    pub(super) buffered: usize,
}

/// Ends the registration of `source` and the transport's claim on the descriptor, which its owner closes next.
pub(super) fn give_descriptor_back(core: &Bound<'_, LoopCore>, source: &Source) {
    source.remove(core);
    core.get().descriptors().remove(core.py(), source.number());
}
