//! TLS over another transport, as asyncio's `sslproto` has it.
//!
//! Two objects stand between a protocol and the transport below:
//!
//! | | is | for |
//! |---|---|---|
//! | [`TlsTransport`] | the transport | the protocol above; has all the state |
//! | [`TlsProtocol`] | the protocol | the transport below |
//!
//! | file | topic |
//! |---|---|
//! | [`engine`] | what encrypts and decrypts |
//! | [`new`] | how a connection is made, and what is refused |
//! | [`handshake`] | from the transport below to `connection_made` |
//! | [`read`] | what was received, to the protocol |
//! | [`fetch`] | what a coroutine that waits for it takes by itself |
//! | [`write`](mod@write) | what the protocol writes, to the transport below, and flow control |
//! | [`life`] | closing, failing, the end |
//! | [`lower`] | the transport below |
//! | [`protocol`] | [`TlsProtocol`] |
//! | [`accept`] | what a server makes its connections by |
//! | [`methods`] | what Python sees of [`TlsTransport`] |
//! | [`buffers`] | memory that connections use in turn |
//!
//! # Phases
//!
//! | phase | the protocol gets data | what it writes | ends with |
//! |---|---|---|---|
//! | unwrapped | no | is dropped and counted | `connection_made` of the transport below |
//! | handshake | no | waits | success, failure, a timeout |
//! | wrapped | yes | is encrypted and sent | `close()`, the peer's `close_notify` or end of file, an error |
//! | flushing | what is left, yes | is dropped and counted | all that waits is encrypted |
//! | shutdown | no | is dropped and counted | the peer's `close_notify` or end of file, a timeout |
//!
//! A phase is followed by the next one, or by unwrapped, from where nothing leads back.
//!
//! # Re-entry
//!
//! The [`Engine`] can call Python, and let other threads run. Whoever finds it in use leaves a mark; who
//! uses it looks for the mark afterwards and does what was to be done ([`TlsTransport::advance`]).

mod accept;
mod buffers;
mod engine;
mod fetch;
mod handshake;
mod life;
mod lower;
mod methods;
mod new;
mod protocol;
mod read;
mod write;

pub(crate) use accept::Accept;
pub(crate) use life::aborted;
pub(crate) use methods::Write;
pub(crate) use new::{Begin, NewTlsTransport};
pub(crate) use protocol::TlsProtocol;

use std::sync::OnceLock;

use ferrio::engine::TimerKey;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, ffi};

use self::engine::Engine;
use self::lower::Lower;
use self::write::Output;
use crate::ffi::cell::{GilCell, GilCopy, GilExclusive};
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::futures::Future;
use crate::loop_ref::LoopCore;
use crate::transports::protocol::Protocol;
use crate::transports::{log, native};

/// Makes the classes known to the transports below.
pub(crate) fn install(py: Python<'_>) {
    native::register::<TlsProtocol>(py);
}

/// A TLS connection, as `asyncio.Transport`.
// Libraries look for "SSL" in the name of a transport's class.
#[pyclass(frozen, dict, weakref, module = "ferrio", name = "SSLTransport")]
pub(crate) struct TlsTransport {
    core: Py<LoopCore>,
    /// What timers run in.
    context: Py<PyAny>,
    ssl_context: Py<PyAny>,
    engine: GilExclusive<Engine>,
    /// Whether data goes through the engine without Python objects.
    is_direct: bool,
    /// What was received and the engine has not been given.
    inbox: GilCell<Vec<u8>>,
    phase: GilCopy<Phase>,
    flags: GilCopy<Flags>,
    /// How often something was written since the connection was closed.
    late_writes: GilCopy<u32>,
    /// The marks of what was received and not decrypted, in bytes, at which the transport below pauses and goes on.
    read_marks: GilCopy<(usize, usize)>,
    lower: GilCell<Option<Lower>>,
    /// The protocol above; none once it has been told of the end.
    upper: Protocol,
    output: GilCell<Output>,
    timeouts: Timeouts,
    /// What aborts the handshake, or the closing, when it takes too long.
    timer: GilCopy<Option<TimerKey>>,
    beginning: GilCell<Option<Box<Beginning>>>,
    /// `peercert`, `cipher` and `compression`, once somebody has asked.
    answers: GilCell<[Option<Py<PyAny>>; 3]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unwrapped,
    Handshake,
    Wrapped,
    Flushing,
    Shutdown,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// `close()` was called, or something ended the connection.
    closed: bool,
    /// The protocol has had its `connection_made`: by this transport, or, with `start_tls`, by the one below.
    made: bool,
    /// The protocol has had its `eof_received`.
    eof_told: bool,
    /// The protocol has had its `connection_lost`, or will have it in the next turn.
    lost_told: bool,
    /// The handshake succeeded.
    secured: bool,
    /// `pause_reading()` was called last.
    reading_paused: bool,
    /// The transport below was told to pause reading.
    lower_reading_paused: bool,
    /// The transport below has told to pause writing.
    lower_full: bool,
    /// The transport below has received an end of file.
    lower_ended: bool,
    /// Somebody found the engine in use, and something is to be done.
    again: bool,
}

/// Seconds, and what was given for it: the texts of errors say that.
#[derive(Debug)]
struct Timeouts {
    handshake: f64,
    handshake_given: Option<Py<PyAny>>,
    shutdown: f64,
}

/// What a connection knows only until the handshake is over.
#[derive(Debug)]
struct Beginning {
    waiter: Option<Waiter>,
    /// When it began, in debug mode.
    start: Option<f64>,
}

/// Who waits for the handshake.
#[derive(Debug)]
enum Waiter {
    /// Gets the transport and the protocol.
    Pair(Py<Future>),
    /// Gets the transport.
    Transport(Py<Future>),
    /// A future of whatever kind, which gets None.
    Any(Py<PyAny>),
    /// Nobody, but in debug mode a failure is reported: a server's connection.
    Server,
}

impl TlsTransport {
    fn core<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, LoopCore> {
        self.core.bind(py)
    }

    #[inline]
    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Flags)) {
        let mut flags = self.flags.get(py);
        change(&mut flags);
        self.flags.set(py, flags);
    }

    #[inline]
    fn lower(&self, py: Python<'_>) -> Option<Lower> {
        self.lower.with(py, |lower| lower.as_ref().map(|lower| lower.clone_ref(py)))
    }

    /// Runs `f` with the engine, which it has alone. `None` if it is in use, and what was to be done will be done by
    /// who uses it, as far as [`advance`](Self::advance) knows what it is.
    #[inline]
    fn with_engine<R>(&self, py: Python<'_>, f: impl FnOnce(&mut Engine) -> R) -> Option<R> {
        match self.engine.try_use(py) {
            Some(mut engine) => Some(f(&mut engine)),
            None => {
                self.change(py, |flags| flags.again = true);
                None
            }
        }
    }

    /// Logs a message about the transport in debug mode; `error` goes with it.
    fn log_debug(this: &Bound<'_, Self>, message: &str, error: Option<&PyErr>) {
        log::debug(this.get().core(this.py()), this.as_any(), "debug", message, error);
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        visit.call(&self.ssl_context)?;
        visit.call(&self.timeouts.handshake_given)?;
        self.engine.traverse(visit, |engine, visit| engine.traverse(visit))?;
        self.upper.traverse(visit)?;
        self.lower.traverse(visit, |lower, visit| match lower {
            Some(lower) => lower.traverse(visit),
            None => Ok(()),
        })?;
        self.beginning.traverse(visit, |beginning, visit| {
            match beginning.as_ref().and_then(|beginning| beginning.waiter.as_ref()) {
                Some(Waiter::Pair(future) | Waiter::Transport(future)) => visit.call(future),
                Some(Waiter::Any(future)) => visit.call(future),
                Some(Waiter::Server) | None => Ok(()),
            }
        })?;
        self.answers.traverse(visit, |answers, visit| answers.iter().try_for_each(|answer| visit.call(answer)))
    }

    fn clear(&self, py: Python<'_>) {
        self.upper.set(py, None);
        drop((self.lower.take(py), self.beginning.take(py), self.answers.take(py)));
    }
}

impl Finalize for TlsTransport {
    /// A transport that was not closed says so. The one below closes the socket.
    fn finalize(this: &Bound<'_, Self>) {
        if let Err(error) = Self::warn_unclosed(this) {
            error.write_unraisable(this.py(), Some(this));
        }
    }
}

impl FinalizeFirst for TlsTransport {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        !this.get().flags.get(this.py()).closed
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
