//! The transport below a TLS connection.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::TlsTransport;
use crate::transports::SocketTransport;

/// A transport: one of ours, or one that is known by its methods only.
#[derive(Debug)]
pub(super) enum Lower {
    Socket(Py<SocketTransport>),
    Tls(Py<TlsTransport>),
    Foreign(Py<PyAny>),
}

impl Lower {
    pub(super) fn new(transport: &Bound<'_, PyAny>) -> Self {
        if let Ok(socket) = transport.cast::<SocketTransport>() {
            return Self::Socket(socket.clone().unbind());
        }
        match transport.cast::<TlsTransport>() {
            Ok(tls) => Self::Tls(tls.clone().unbind()),
            Err(_) => Self::Foreign(transport.clone().unbind()),
        }
    }

    #[inline]
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Socket(socket) => Self::Socket(socket.clone_ref(py)),
            Self::Tls(tls) => Self::Tls(tls.clone_ref(py)),
            Self::Foreign(transport) => Self::Foreign(transport.clone_ref(py)),
        }
    }

    pub(super) fn object<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, PyAny> {
        match self {
            Self::Socket(socket) => socket.bind(py).as_any(),
            Self::Tls(tls) => tls.bind(py).as_any(),
            Self::Foreign(transport) => transport.bind(py),
        }
    }

    /// Its protocol, if it tells and has one.
    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.object(py).getattr_opt(intern!(py, "get_protocol"))? {
            Some(get_protocol) => get_protocol.call0().map(Some),
            None => Ok(None),
        }
    }

    /// Sends `data`, or keeps what cannot be sent now.
    #[inline]
    pub(super) fn write(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        match self {
            Self::Socket(socket) => SocketTransport::write_slice(socket.bind(py), data),
            Self::Tls(tls) => TlsTransport::write_slice(tls.bind(py), data),
            Self::Foreign(transport) => {
                transport.bind(py).call_method1(intern!(py, "write"), (PyBytes::new(py, data),)).map(drop)
            }
        }
    }

    /// How many bytes wait in it; 0 if it is not ours to count.
    #[inline]
    pub(super) fn buffered(&self, py: Python<'_>) -> usize {
        match self {
            Self::Socket(socket) => socket.get().buffered(py),
            Self::Tls(tls) => tls.get().buffered(py),
            Self::Foreign(_) => 0,
        }
    }

    /// Sets the marks at which it tells to pause and to go on, if it is ours to set.
    pub(super) fn set_limits(&self, py: Python<'_>, high: usize, low: usize) -> PyResult<()> {
        let (high, low) = (Some(i64::try_from(high)?), Some(i64::try_from(low)?));
        match self {
            Self::Socket(socket) => SocketTransport::set_limits(socket.bind(py), high, low),
            Self::Tls(tls) => TlsTransport::set_limits(tls.bind(py), high, low),
            Self::Foreign(_) => Ok(()),
        }
    }

    /// Ends the connection now, with `failure` as what `connection_lost` is given.
    pub(super) fn force_close(&self, py: Python<'_>, failure: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        match self {
            Self::Socket(socket) => SocketTransport::force_close(socket.bind(py), failure.map(Bound::unbind)),
            Self::Tls(tls) => TlsTransport::abort(tls.bind(py), failure),
            Self::Foreign(transport) => {
                let transport = transport.bind(py);
                match transport.getattr_opt(intern!(py, "_force_close"))? {
                    Some(force_close) => force_close.call1((failure,)).map(drop),
                    None => transport.call_method0(intern!(py, "abort")).map(drop),
                }
            }
        }
    }

    pub(super) fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.object(py).call_method0(intern!(py, "pause_reading")).map(drop)
    }

    pub(super) fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.object(py).call_method0(intern!(py, "resume_reading")).map(drop)
    }

    pub(super) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.object(py).call_method0(intern!(py, "close")).map(drop)
    }

    pub(super) fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        self.object(py).call_method0(intern!(py, "is_closing"))?.is_truthy()
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Socket(socket) => visit.call(socket),
            Self::Tls(tls) => visit.call(tls),
            Self::Foreign(transport) => visit.call(transport),
        }
    }
}
