//! `get_extra_info`.

use ferrio::net::Address;
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::SocketTransport;
use crate::asyncio;
use crate::transports::address;
use crate::transports::endpoint::Endpoint;

/// What can be asked of a transport, also when the connection is gone.
#[derive(Debug)]
pub(super) struct Info {
    local: Option<Address>,
    peer: Option<Address>,
    /// The `TransportSocket`, once somebody has asked for it.
    socket: Option<Py<PyAny>>,
}

impl Info {
    pub(super) fn new(local: Option<Address>, peer: Option<Address>) -> Self {
        Self { local, peer, socket: None }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)
    }
}

impl SocketTransport {
    /// The value that goes by `name`; `None` if there is no such name, or no longer such a thing.
    pub(super) fn extra_info<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let Ok(name) = name.cast::<PyString>() else { return Ok(None) };
        let info = &this.get().info;
        match name.to_str()? {
            "socket" => Self::transport_socket(this),
            "sockname" => Self::address(this, info.with(py, |info| info.local.clone()), intern!(py, "getsockname")),
            "peername" => Self::address(this, info.with(py, |info| info.peer.clone()), intern!(py, "getpeername")),
            _ => Ok(None),
        }
    }

    /// None, the Python object, where there was no address when the transport was made.
    fn address<'py>(
        this: &Bound<'py, Self>,
        address: Option<Address>,
        method: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let none = || Some(py.None().into_bound(py));
        let Some(address) = address else { return Ok(none()) };
        if let Some(address) = address::to_python(py, &address)? {
            return Ok(Some(address));
        }
        let Some(socket) = Endpoint::socket(&this.get().endpoint, py)? else { return Ok(none()) };
        Ok(socket.call_method0(method).map_or_else(|_| none(), Some))
    }

    fn transport_socket<'py>(this: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let transport = this.get();
        let known = || transport.info.with(py, |info| info.socket.as_ref().map(|socket| socket.clone_ref(py)));
        if let Some(socket) = known() {
            return Ok(Some(socket.into_bound(py)));
        }
        let Some(socket) = Endpoint::socket(&transport.endpoint, py)? else { return Ok(None) };
        let socket = asyncio::transport_socket_class(py)?.call1((socket,))?;
        let kept = socket.clone().unbind();
        drop(transport.info.with(py, |info| info.socket.replace(kept)));
        Ok(Some(socket))
    }
}
