//! What a server makes the protocols of its connections by.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::new::Begin;
use super::{NewTlsTransport, TlsProtocol, TlsTransport};
use crate::ffi::call::call0;
use crate::loop_ref::LoopCore;

/// A protocol factory around another: what it makes is the protocol of a socket transport, with a TLS transport and
/// what the other factory has made on top.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(crate) struct Accept {
    pub(crate) core: Py<LoopCore>,
    pub(crate) factory: Py<PyAny>,
    pub(crate) ssl_context: Py<PyAny>,
    pub(crate) handshake_timeout: Option<Py<PyAny>>,
    pub(crate) shutdown_timeout: Option<Py<PyAny>>,
}

#[pymethods]
impl Accept {
    fn __call__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, TlsProtocol>> {
        let protocol = call0(self.factory.bind(py))?;
        let handshake_timeout = self.handshake_timeout.as_ref().map(|given| given.bind(py));
        let shutdown_timeout = self.shutdown_timeout.as_ref().map(|given| given.bind(py));
        TlsTransport::create(&NewTlsTransport {
            core: self.core.bind(py),
            protocol,
            ssl_context: Some(self.ssl_context.bind(py)),
            server_side: true,
            server_hostname: None,
            handshake_timeout,
            shutdown_timeout,
            begin: Begin::Accept,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.factory)?;
        visit.call(&self.ssl_context)?;
        visit.call(&self.handshake_timeout)?;
        visit.call(&self.shutdown_timeout)
    }
}
