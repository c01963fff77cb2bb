//! How a TLS connection is made, and what is refused.

use ferrio::stream::Limits;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use super::engine::Engine;
use super::write::Output;
use super::{Beginning, Flags, Phase, Timeouts, TlsProtocol, TlsTransport, Waiter};
use crate::asyncio;
use crate::ffi::cell::{GilCell, GilCopy, GilExclusive};
use crate::ffi::context;
use crate::ffi::newborn;
use crate::futures::Future;
use crate::loop_ref::LoopCore;
use crate::transports::protocol::Protocol;

/// Seconds, as asyncio's constants say.
const HANDSHAKE_TIMEOUT: f64 = 60.0;
const SHUTDOWN_TIMEOUT: f64 = 30.0;

/// The marks for what is to be sent, in bytes, over both layers.
const WRITE_HIGH: i64 = 512 * 1024;
/// The marks for what was received and not decrypted, in bytes.
pub(super) const READ_HIGH: i64 = 256 * 1024;

/// What a TLS connection is made of.
pub(crate) struct NewTlsTransport<'a, 'py> {
    pub(crate) core: &'a Bound<'py, LoopCore>,
    pub(crate) protocol: Bound<'py, PyAny>,
    /// None for a client's default.
    pub(crate) ssl_context: Option<&'a Bound<'py, PyAny>>,
    pub(crate) server_side: bool,
    pub(crate) server_hostname: Option<&'a Bound<'py, PyAny>>,
    pub(crate) handshake_timeout: Option<&'a Bound<'py, PyAny>>,
    pub(crate) shutdown_timeout: Option<&'a Bound<'py, PyAny>>,
    pub(crate) begin: Begin,
}

/// Who is told of the beginning.
pub(crate) enum Begin {
    /// The protocol, by `connection_made`, and then the future, which gets the transport and the protocol.
    Connect(Py<Future>),
    /// The protocol, by `connection_made`, and then a future of whatever kind, if there is one, which gets None.
    Tell(Option<Py<PyAny>>),
    /// The protocol, by `connection_made`.
    Accept,
    /// The future alone, which gets the transport: the protocol has one already, which becomes the one below.
    Upgrade(Py<Future>),
}

impl TlsTransport {
    /// Makes a connection, and the protocol that the transport below is to have.
    ///
    /// # Errors
    ///
    /// `ValueError` for a timeout that is not positive, for a server without a context, and for a client that is to
    /// check a name and is given none; what `SSLContext.wrap_bio` raises.
    pub(crate) fn create<'py>(new: &NewTlsTransport<'_, 'py>) -> PyResult<Bound<'py, TlsProtocol>> {
        let py = new.core.py();
        let handshake = timeout(new.handshake_timeout, "ssl_handshake_timeout", HANDSHAKE_TIMEOUT)?;
        let shutdown = timeout(new.shutdown_timeout, "ssl_shutdown_timeout", SHUTDOWN_TIMEOUT)?;
        let hostname = match new.server_hostname {
            Some(hostname) if hostname.is_truthy()? => Some(hostname),
            _ => None,
        };
        let ssl_context = match new.ssl_context {
            Some(ssl_context) => ssl_context.clone(),
            None if new.server_side => {
                return Err(PyValueError::new_err("Server side SSL needs a valid SSLContext"));
            }
            None => default_context(py, hostname.is_some())?,
        };
        // `wrap_bio` refuses it since Python 3.14; before, nobody would have checked the name.
        let checks_name = |context: &Bound<'_, PyAny>| context.getattr(intern!(py, "check_hostname"))?.is_truthy();
        if !new.server_side && hostname.is_none() && checks_name(&ssl_context)? {
            return Err(PyValueError::new_err("check_hostname requires server_hostname"));
        }
        let engine = Engine::new(&ssl_context, new.server_side, hostname.filter(|_| !new.server_side))?;
        let (waiter, made) = match &new.begin {
            Begin::Connect(waiter) => (Some(Waiter::Pair(waiter.clone_ref(py))), false),
            Begin::Tell(waiter) => (waiter.as_ref().map(|waiter| Waiter::Any(waiter.clone_ref(py))), false),
            Begin::Accept => (Some(Waiter::Server), false),
            Begin::Upgrade(waiter) => (Some(Waiter::Transport(waiter.clone_ref(py))), true),
        };
        let transport = Self {
            core: new.core.clone().unbind(),
            context: context::copy_current(py)?,
            ssl_context: ssl_context.unbind(),
            is_direct: engine.is_direct(),
            engine: GilExclusive::new(engine),
            inbox: GilCell::default(),
            phase: GilCopy::new(Phase::Unwrapped),
            flags: GilCopy::new(Flags { made, ..Flags::default() }),
            late_writes: GilCopy::new(0),
            read_marks: GilCopy::new(marks(Some(READ_HIGH), None, READ_HIGH)?),
            lower: GilCell::default(),
            upper: Protocol::new(new.protocol.clone().unbind()),
            output: GilCell::new(Output::default()),
            timeouts: Timeouts {
                handshake,
                handshake_given: new.handshake_timeout.map(|given| given.clone().unbind()),
                shutdown,
            },
            timer: GilCopy::new(None),
            beginning: GilCell::new(Some(Box::new(Beginning { waiter, start: None }))),
            answers: GilCell::default(),
        };
        let limits = write_limits(None, None)?;
        transport.output.with(py, |output| output.flow.set_limits(limits));
        let transport = newborn::make(py, transport)?.into_bound(py);
        TlsProtocol::create(&transport)
    }
}

/// The marks for what is to be sent.
pub(super) fn write_limits(high: Option<i64>, low: Option<i64>) -> PyResult<Limits> {
    let high = high.or_else(|| low.is_none().then_some(WRITE_HIGH));
    Limits::new(high, low).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Two marks, high and low.
pub(super) fn marks(high: Option<i64>, low: Option<i64>, default: i64) -> PyResult<(usize, usize)> {
    let high = high.or_else(|| low.is_none().then_some(default));
    let limits = Limits::new(high, low).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok((limits.high(), limits.low()))
}

fn timeout(given: Option<&Bound<'_, PyAny>>, name: &str, default: f64) -> PyResult<f64> {
    let Some(given) = given else { return Ok(default) };
    if given.le(0)? {
        return Err(PyValueError::new_err(format!("{name} should be a positive number, got {}", given.str()?)));
    }
    given.extract()
}

fn default_context(py: Python<'_>, has_hostname: bool) -> PyResult<Bound<'_, PyAny>> {
    // Looked up for every call: programs replace it.
    let context = asyncio::module(py, "ssl")?.call_method0(intern!(py, "create_default_context"))?;
    if !has_hostname {
        context.setattr(intern!(py, "check_hostname"), false)?;
    }
    Ok(context)
}
