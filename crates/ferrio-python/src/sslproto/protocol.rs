//! `TlsProtocol`: what the transport below a TLS connection calls.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::TlsTransport;
use crate::asyncio;
use crate::classes::stands_for;
use crate::ffi::buffer::with_bytes;
use crate::ffi::newborn;
use crate::loop_ref::LoopCore;
use crate::transports::native::{NativeProtocol, Ran};

/// The protocol of the transport below, as `asyncio.Protocol`.
///
/// It has a `__dict__` because programs put functions of their own in the place of its `connection_lost` and
/// `eof_received`, to learn when a connection is really gone.
#[pyclass(frozen, dict, weakref, module = "ferrio")]
pub(crate) struct TlsProtocol {
    transport: Py<TlsTransport>,
}

impl TlsProtocol {
    pub(super) fn create<'py>(transport: &Bound<'py, TlsTransport>) -> PyResult<Bound<'py, Self>> {
        let protocol = Self { transport: transport.clone().unbind() };
        Ok(newborn::make(transport.py(), protocol)?.into_bound(transport.py()))
    }

    /// Takes what a protocol of asyncio's streams has received and nobody has read: it is the beginning of the
    /// handshake.
    pub(crate) fn take_buffered(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = protocol.py();
        if !protocol.is_instance(asyncio::stream_reader_protocol_class(py)?)? {
            return Ok(());
        }
        let Some(reader) = protocol.getattr_opt(intern!(py, "_stream_reader"))?.filter(|reader| !reader.is_none())
        else {
            return Ok(());
        };
        let buffer = reader.getattr(intern!(py, "_buffer"))?;
        with_bytes(&buffer, |data| self.transport.get().take_in(py, data))?;
        buffer.call_method0(intern!(py, "clear")).map(drop)
    }

    /// The transport above.
    pub(crate) fn transport<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, TlsTransport> {
        self.transport.bind(py)
    }
}

impl NativeProtocol for TlsProtocol {
    #[inline]
    fn take_in(this: &Bound<'_, Self>, data: &[u8]) {
        this.get().transport.get().take_in(this.py(), data);
    }

    #[inline]
    fn received(this: &Bound<'_, Self>) -> PyResult<Ran> {
        TlsTransport::advance(this.get().transport(this.py())).map(|()| Ran::Anybodys)
    }

    #[inline]
    fn receive(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<Ran> {
        TlsTransport::receive(this.get().transport(this.py()), data)
    }

    const RECEIVES: bool = true;

    fn wake_to_fetch(this: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<Option<Ran>> {
        TlsTransport::wake_to_fetch(this.get().transport(this.py()), core)
    }
}

#[pymethods]
impl TlsProtocol {
    /// The transport below is there: begins the handshake.
    fn connection_made(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        TlsTransport::begin(self.transport(transport.py()), transport)
    }

    /// Ciphertext, from a transport that does not hand it over in Rust.
    fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let transport = slf.get().transport(py);
        with_bytes(data, |data| transport.get().take_in(py, data))?;
        TlsTransport::advance(transport)
    }

    /// The peer has ended its side. Returns whether the transport below is to stay open.
    fn eof_received(&self, py: Python<'_>) -> PyResult<bool> {
        TlsTransport::lower_ended(self.transport(py))
    }

    /// The transport below is gone.
    fn connection_lost(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        TlsTransport::lower_lost(self.transport(py), exc)
    }

    /// The transport below has much to send.
    fn pause_writing(&self, py: Python<'_>) -> PyResult<()> {
        TlsTransport::lower_filled(self.transport(py))
    }

    /// The transport below has room again.
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        TlsTransport::lower_drained(self.transport(py))
    }

    /// The `ssl.SSLContext`, under the name that asyncio's own protocol has for it, which programs read.
    #[getter]
    fn _sslcontext<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.transport.get().ssl_context.bind(py).clone()
    }

    /// The transport below, by asyncio's name for it; None once it is gone.
    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.transport.get().lower(py).map(|lower| lower.object(py).clone())
    }

    /// The `ssl.SSLObject`, likewise; None before the handshake has begun.
    #[getter]
    fn _sslobj<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.transport.get().ssl_object(py)
    }

    /// The transport above, likewise.
    #[getter]
    fn _app_transport<'py>(&self, py: Python<'py>) -> Bound<'py, TlsTransport> {
        self.transport(py).clone()
    }

    /// The protocol above, likewise.
    #[getter]
    fn _app_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.transport.get().upper.get(py)
    }

    /// What the transport above answers from beside what the one below knows, likewise.
    #[getter]
    fn _extra<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let known = PyDict::new(py);
        let names: &[&str] = match self.transport.get().flags.get(py).secured {
            true => &["sslcontext", "ssl_object", "peercert", "cipher", "compression"],
            false => &["sslcontext"],
        };
        for name in names {
            known.set_item(name, self.transport(py).call_method1(intern!(py, "get_extra_info"), (name,))?)?;
        }
        Ok(known)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        Ok(format!("<{} of {}>", slf.get_type().name()?, slf.get().transport(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.transport)
    }
}

stands_for!(TlsProtocol, protocol_class);
