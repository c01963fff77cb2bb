//! What Python sees of a transport.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::SocketTransport;
use crate::asyncio;
use crate::loop_ref::LoopCore;
use crate::transports::mark::mark;
use crate::transports::transport::{DescriptorTransport, Shown};

#[pymethods]
impl SocketTransport {
    /// Writes the chunks of an iterable, as one `write` of all of them would.
    ///
    /// Raises TypeError if one has no bytes, and writes none then; RuntimeError after write_eof().
    fn writelines<'py>(slf: &Bound<'py, Self>, list_of_data: &Bound<'py, PyAny>) -> PyResult<()> {
        Self::write_all(slf, list_of_data)
    }

    /// Ends the sending side behind what is buffered; the peer can go on sending. Does nothing once it is closing.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::end_output(slf)
    }

    /// True: the sending side can be ended alone.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Closes the transport when what is buffered has been sent; nothing is received any more. The protocol's
    /// `connection_lost(None)` is called in a later turn.
    #[pyo3(name = "close")]
    fn close_method(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close(slf)
    }

    /// Closes the transport without sending what is buffered. `connection_lost(None)` is called in a later turn.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, None)
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.flags.get(py).closing
    }

    /// Whether data is received.
    pub(super) fn is_reading(&self, py: Python<'_>) -> bool {
        let flags = self.flags.get(py);
        !flags.closing && !flags.paused
    }

    /// Stops receiving: `data_received` is not called until `resume_reading()`. Does nothing if it is paused or
    /// closing.
    fn pause_reading(slf: &Bound<'_, Self>) {
        let py = slf.py();
        if slf.get().is_reading(py) {
            slf.get().change(py, |flags| flags.paused = true);
            Self::log_debug(slf, "%r pauses reading", None);
        }
    }

    /// Receives again. Does nothing if it is not paused, or closing.
    #[pyo3(name = "resume_reading")]
    fn resume_reading_method(slf: &Bound<'_, Self>) -> PyResult<()> {
        let was_paused = slf.get().flags.get(slf.py()).paused;
        Self::resume_reading(slf)?;
        if was_paused {
            Self::log_debug(slf, "%r resumes reading", None);
        }
        Ok(())
    }

    /// Sets the sizes of the buffer, in bytes, above which the protocol's `pause_writing()` is called, and at which
    /// `resume_writing()` is. `high` is 64 KiB unless it is given, or four times `low`; `low` is a quarter of `high`.
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
        let limits = self.look_at_output(py, |output| output.flow.limits());
        (limits.low(), limits.high())
    }

    /// How many bytes wait to be sent.
    fn get_write_buffer_size(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Self::send_deferred(slf)?;
        Ok(slf.get().buffered(slf.py()))
    }

    /// Has `protocol` told of everything from now on.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) {
        // That the peer sends no more, the new one has not heard: it is told when it has reading resumed, as TLS does.
        self.change(protocol.py(), |flags| flags.input_ended = false);
        self.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.get(py)
    }

    /// The `socket` (an asyncio.TransportSocket), `sockname` or `peername`, also when the connection is lost; `default`
    /// for other names.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Self::extra_info(slf, name)?.or(default))
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Py<PyAny>>) -> PyResult<()> {
        Self::force_close(slf, exc)
    }

    #[getter]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, LoopCore> {
        self.core(py).clone()
    }

    /// How `loop.sendfile` sends by this transport: a member of asyncio's own enumeration.
    #[getter]
    fn _sendfile_compatible<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::sendfile_mode(slf.py())?.getattr("TRY_NATIVE")
    }

    #[getter]
    fn _paused(&self, py: Python<'_>) -> bool {
        self.flags.get(py).paused
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.look_at_output(py, |output| output.flow.is_paused())
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::transport_class(slf.py()).cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let transport = slf.get();
        let flags = transport.flags.get(py);
        let shown = Shown {
            is_open: transport.endpoint.with(py, |endpoint| endpoint.is_open()),
            closing: flags.closing,
            paused: flags.paused,
            buffered: transport.buffered(py),
        };
        Self::describe(slf, &transport.source, &shown)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().clear(slf.py());
    }
}
