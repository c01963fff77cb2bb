//! What Python sees of a transport.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::DatagramTransport;
use crate::asyncio;
use crate::loop_ref::LoopCore;
use crate::transports::mark::mark;
use crate::transports::transport::{DescriptorTransport, Shown};

#[pymethods]
impl DatagramTransport {
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

    /// Whether datagrams are received.
    pub(super) fn is_reading(&self, py: Python<'_>) -> bool {
        let flags = self.flags.get(py);
        !flags.closing && !flags.paused
    }

    /// Stops receiving until `resume_reading()`. Does nothing if it is paused or closing.
    fn pause_reading(&self, py: Python<'_>) {
        if self.is_reading(py) {
            self.change(py, |flags| flags.paused = true);
        }
    }

    /// Receives again. Does nothing if it is not paused, or closing.
    #[pyo3(name = "resume_reading")]
    fn resume_reading_method(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume_reading(slf)
    }

    /// Raises NotImplementedError: there is no stream to write to. So do the three that follow.
    fn write(&self, _data: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// Raises NotImplementedError.
    fn writelines(&self, _list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// Raises NotImplementedError.
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// Raises NotImplementedError.
    fn can_write_eof(&self) -> PyResult<bool> {
        Err(PyNotImplementedError::new_err(()))
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
        let limits = self.output.with(py, |output| output.limits());
        (limits.low(), limits.high())
    }

    /// How many bytes wait to be sent, with eight for each datagram.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.output.with(py, |output| output.size())
    }

    /// Has `protocol` told of everything from now on.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) {
        self.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
    }

    /// The protocol; None once the transport is closed.
    pub(crate) fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.get(py)
    }

    /// The `socket` (an asyncio.TransportSocket), `sockname` or `peername`; `default` for other names.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Ok(name) = name.cast::<PyString>() else { return Ok(default) };
        Ok(match name.to_str()? {
            "socket" => self.socket.with(py, |socket| socket.as_ref().map(|socket| socket.clone_ref(py))),
            "sockname" => self.local_name.as_ref().map(|name| name.clone_ref(py)),
            "peername" => self.peer_name.as_ref().map(|name| name.clone_ref(py)),
            _ => default,
        })
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, LoopCore> {
        self.core(py).clone()
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::datagram_transport_class(slf.py()).cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let transport = slf.get();
        let flags = transport.flags.get(py);
        let shown = Shown {
            is_open: transport.endpoint.with(py, |endpoint| endpoint.is_open()),
            closing: flags.closing,
            paused: flags.paused,
            buffered: transport.get_write_buffer_size(py),
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
