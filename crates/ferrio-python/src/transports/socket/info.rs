//! `get_extra_info`.

use ferrio::net::Address;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyOSError;
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
        Self::send_deferred(this)?;
        let known = || transport.info.with(py, |info| info.socket.as_ref().map(|socket| socket.clone_ref(py)));
        if let Some(socket) = known() {
            return Ok(Some(socket.into_bound(py)));
        }
        let socket = match Endpoint::socket(&transport.endpoint, py)? {
            Some(socket) => socket,
            None => match Self::closed_socket(this)? {
                Some(socket) => socket,
                None => return Ok(None),
            },
        };
        let socket = asyncio::transport_socket_class(py)?.call1((socket,))?;
        let kept = socket.clone().unbind();
        drop(transport.info.with(py, |info| info.socket.replace(kept)));
        Ok(Some(socket))
    }

    /// What the connection's socket has become if nobody had asked for it: one that is closed. Whoever asks only now
    /// gets an `OSError` by its methods, as by the real one, and not an `AttributeError` by None. `None` if the family
    /// is not known, or no descriptor is left to make it with.
    fn closed_socket<'py>(this: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let family = this.get().info.with(py, |info| match info.local {
            Some(Address::V4(_)) => Some(libc::AF_INET),
            Some(Address::V6(_)) => Some(libc::AF_INET6),
            Some(Address::Unix(_)) => Some(libc::AF_UNIX),
            _ => None,
        });
        let Some(family) = family else { return Ok(None) };
        match asyncio::socket_class(py)?.call1((family, libc::SOCK_STREAM)) {
            Ok(socket) => socket.call_method0(intern!(py, "close")).map(|_| Some(socket)),
            Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
