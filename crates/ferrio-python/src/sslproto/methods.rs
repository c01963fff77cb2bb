//! What Python sees of a TLS transport.

use std::ffi::CStr;

use pyo3::PyTraverseError;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::new::{READ_HIGH, marks};
use super::{Phase, TlsProtocol, TlsTransport};
use crate::asyncio;
use crate::ffi::method::{CallArguments, FastMethod};
use crate::loop_ref::LoopCore;
use crate::transports::mark::mark;

/// `TlsTransport.write`.
pub(crate) struct Write;

impl FastMethod for Write {
    type Class = TlsTransport;

    const NAME: &'static CStr = c"write";

    const DOC: &'static CStr = c"write($self, data)\n--\n\n\
        Encrypts and sends `data`, a bytes, bytearray or memoryview, or buffers what cannot be sent now. Does not block.\n\n\
        A mutable object may be changed as soon as this returns. Raises TypeError for what is no such object.";

    #[inline]
    fn call<'py>(slf: &Bound<'py, TlsTransport>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        TlsTransport::write(slf, &arguments.only("write", "data")?)?;
        Ok(py.None().into_bound(py))
    }
}

#[pymethods]
impl TlsTransport {
    /// Writes the chunks of an iterable, as one `write` of all of them would.
    ///
    /// Raises TypeError if one has no bytes, and writes none then.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_all(slf, list_of_data)
    }

    /// Raises NotImplementedError: TLS has no end of one side alone.
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// False.
    fn can_write_eof(&self) -> bool {
        false
    }

    /// Closes the connection when what is buffered has been sent and the peer has agreed, or `ssl_shutdown_timeout` is
    /// over. The protocol's `connection_lost(None)` is called in a later turn.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_left(slf)?;
        Self::start_shutdown(slf)
    }

    /// Closes the connection without sending what is buffered. `connection_lost(None)` is called in a later turn.
    #[pyo3(name = "abort")]
    fn abort_method(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_left(slf)?;
        Self::abort(slf, None)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::abort(slf, exc)
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        if self.flags.get(py).closed {
            return Ok(true);
        }
        self.lower(py).map_or(Ok(false), |lower| lower.is_closing(py))
    }

    /// Whether data is received.
    fn is_reading(&self, py: Python<'_>) -> bool {
        !self.flags.get(py).reading_paused
    }

    /// Stops receiving: `data_received` is not called until `resume_reading()`.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_left(slf)?;
        slf.get().change(slf.py(), |flags| flags.reading_paused = true);
        Ok(())
    }

    /// Receives again, from the next turn on. Does nothing if it is not paused.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let own = slf.get();
        if !own.flags.get(py).reading_paused {
            return Ok(());
        }
        own.change(py, |flags| flags.reading_paused = false);
        let resume = slf.getattr(intern!(py, "_resume"))?;
        own.core(py).call_method1(intern!(py, "call_soon"), (resume,)).map(drop)
    }

    fn _resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().phase.get(slf.py()) {
            Phase::Wrapped | Phase::Flushing | Phase::Shutdown => Self::advance(slf),
            Phase::Unwrapped | Phase::Handshake => Ok(()),
        }
    }

    /// Sets the sizes, in bytes, of what waits in this transport and in the one below, above which the protocol's
    /// `pause_writing()` is called, and at which `resume_writing()` is. `high` is 512 KiB unless it is given, or four
    /// times `low`; `low` is a quarter of `high`.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = mark)] high: Option<i64>,
        #[pyo3(from_py_with = mark)] low: Option<i64>,
    ) -> PyResult<()> {
        Self::set_limits(slf, high, low)
    }

    /// The two sizes of `set_write_buffer_limits`, in bytes: `(low, high)`.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let limits = self.output.with(py, |output| output.flow.limits());
        (limits.low(), limits.high())
    }

    /// How many bytes wait to be sent, in this transport and in the one below.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.buffered(py)
    }

    /// Sets the sizes, in bytes, of what was received and is not decrypted because reading is paused, at which the
    /// transport below pauses, and at which it goes on. `high` is 256 KiB unless it is given, or four times `low`;
    /// `low` is a quarter of `high`.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_read_buffer_limits(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = mark)] high: Option<i64>,
        #[pyo3(from_py_with = mark)] low: Option<i64>,
    ) -> PyResult<()> {
        slf.get().read_marks.set(slf.py(), marks(high, low, READ_HIGH)?);
        Self::control_lower_reading(slf)
    }

    /// The two sizes of `set_read_buffer_limits`, in bytes: `(low, high)`.
    fn get_read_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let (high, low) = self.read_marks.get(py);
        (low, high)
    }

    /// How many bytes were received and are not decrypted.
    fn get_read_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.unread(py)
    }

    /// Has `protocol` told of everything from now on.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) {
        self.upper.set(protocol.py(), Some(protocol.clone().unbind()));
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.upper.get(py)
    }

    /// The `sslcontext`; once the handshake is over `ssl_object`, `peercert`, `cipher` and `compression`; else what the
    /// transport below has by that name, `default` if it has none or is gone.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = name.py();
        let secured = self.flags.get(py).secured;
        if let Ok(text) = name.cast::<PyString>() {
            match text.to_str()? {
                "sslcontext" => return Ok(Some(self.ssl_context.bind(py).clone())),
                "ssl_object" if secured => return Ok(self.ssl_object(py)),
                "peercert" if secured => return self.answer(0, intern!(py, "getpeercert")).map(Some),
                "cipher" if secured => return self.answer(1, intern!(py, "cipher")).map(Some),
                "compression" if secured => return self.answer(2, intern!(py, "compression")).map(Some),
                _ => {}
            }
        }
        match self.lower(py) {
            Some(lower) => {
                let answer = lower.object(py).call_method1(intern!(py, "get_extra_info"), (name, default))?;
                Ok(Some(answer))
            }
            None => Ok(default),
        }
    }

    /// How `loop.sendfile` sends by this transport: a member of asyncio's own enumeration.
    #[getter]
    fn _sendfile_compatible<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::sendfile_mode(slf.py())?.getattr("FALLBACK")
    }

    #[getter]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    /// What the transport below calls: its protocol, until it is gone.
    #[getter]
    fn _ssl_protocol<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, TlsProtocol>> {
        let py = slf.py();
        if let Some(lower) = slf.get().lower(py)
            && let Some(protocol) = lower.protocol(py)?
            && let Ok(protocol) = protocol.cast_into::<TlsProtocol>()
            && protocol.get().transport(py).is(slf)
        {
            return Ok(protocol);
        }
        TlsProtocol::create(slf)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, LoopCore> {
        self.core(py).clone()
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.output.with(py, |output| output.flow.is_paused())
    }

    /// Whether data goes through OpenSSL without Python objects.
    #[getter]
    fn _is_direct(&self) -> bool {
        self.is_direct
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        // Programs tell a TLS transport by this name, asyncio's own tests for one.
        asyncio::tls_transport_class(slf.py()).cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let own = slf.get();
        let phase = match own.phase.get(py) {
            Phase::Unwrapped if own.flags.get(py).closed => "closed",
            Phase::Unwrapped => "unwrapped",
            Phase::Handshake => "handshake",
            Phase::Wrapped => "wrapped",
            Phase::Flushing => "flushing",
            Phase::Shutdown => "shutdown",
        };
        let over = match own.lower(py) {
            Some(lower) => format!(" over {}", lower.object(py).repr()?),
            None => String::new(),
        };
        Ok(format!("<{} {phase}{over}>", slf.get_type().name()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().clear(slf.py());
    }
}

impl TlsTransport {
    /// The `ssl.SSLObject`; `None` before there is one.
    pub(super) fn ssl_object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.engine.try_use(py).map(|engine| engine.object(py).clone())
    }

    /// What the `ssl.SSLObject` answers to a method, asked once: few ask at all, and a certificate is much to decode.
    fn answer<'py>(&self, place: usize, method: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let py = method.py();
        if let Some(known) = self.answers.with(py, |answers| answers[place].as_ref().map(|known| known.clone_ref(py))) {
            return Ok(known.into_bound(py));
        }
        let Some(object) = self.ssl_object(py) else { return Ok(py.None().into_bound(py)) };
        let answer = object.call_method0(method)?;
        let kept = answer.clone().unbind();
        drop(self.answers.with(py, |answers| answers[place].replace(kept)));
        Ok(answer)
    }
}

/// What asyncio's tests have.
#[cfg(debug_assertions)]
#[pymethods]
impl TlsTransport {
    #[pyo3(name = "_test__append_write_backlog")]
    fn append_write_backlog(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.keep(data)
    }
}
