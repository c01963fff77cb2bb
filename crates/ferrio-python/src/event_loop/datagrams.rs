//! Datagram sockets.

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use super::EventLoop;
use super::connect::{OpenSocket, found};
use super::dns::{Lookup, lookup};
use super::unix::remove_stale;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::call::{call0, method1};
use crate::ffi::context;
use crate::futures::Future;
use crate::transports::{DatagramTransport, NewDatagramTransport};

#[pymethods]
impl EventLoop {
    /// A datagram socket that is bound to `local_addr` and sends to `remote_addr`, either of which may be left out, or
    /// the socket `sock`; returns the transport and the protocol that `protocol_factory()` made. Addresses are pairs of
    /// host and port, or paths with the family AF_UNIX.
    ///
    /// Raises ValueError and TypeError for arguments that contradict each other, OSError if no address will do.
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    #[pyo3(
        signature = (protocol_factory, local_addr=None, remote_addr=None, *, family=None, proto=None, flags=None,
            reuse_port=None, allow_broadcast=None, sock=None),
        text_signature = "($self, protocol_factory, local_addr=None, remote_addr=None, *, family=0, proto=0, flags=0, \
            reuse_port=None, allow_broadcast=None, sock=None)"
    )]
    fn create_datagram_endpoint<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        local_addr: Option<Py<PyAny>>,
        remote_addr: Option<Py<PyAny>>,
        family: Option<Py<PyAny>>,
        proto: Option<Py<PyAny>>,
        flags: Option<Py<PyAny>>,
        reuse_port: Option<Py<PyAny>>,
        allow_broadcast: Option<Py<PyAny>>,
        sock: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        let wish = Wish { local_addr, remote_addr, family, proto, flags, reuse_port, allow_broadcast };
        Coroutine::new(slf.py(), "BaseEventLoop.create_datagram_endpoint", async move {
            let Some(sock) = sock else {
                let candidates = wish.candidates(&event_loop).await?;
                let (socket, remote) = Python::attach(|py| wish.open_first(py, candidates))?;
                let protocol = Python::attach(|py| call0(protocol_factory.bind(py)).map(Bound::unbind))?;
                return endpoint(&event_loop, protocol, socket, remote, &wish).await;
            };
            // The socket is the program's until there is a protocol for it.
            let protocol = Python::attach(|py| {
                wish.check_socket(sock.bind(py))?;
                call0(protocol_factory.bind(py)).map(Bound::unbind)
            })?;
            endpoint(&event_loop, protocol, OpenSocket::new(sock), None, &wish).await
        })
    }
}

/// What is asked of a socket that is to be made.
struct Wish {
    local_addr: Option<Py<PyAny>>,
    remote_addr: Option<Py<PyAny>>,
    family: Option<Py<PyAny>>,
    proto: Option<Py<PyAny>>,
    flags: Option<Py<PyAny>>,
    reuse_port: Option<Py<PyAny>>,
    allow_broadcast: Option<Py<PyAny>>,
}

/// One socket that would do.
struct Candidate {
    family: Py<PyAny>,
    proto: Py<PyAny>,
    /// Where it is to be, and where it is to send.
    addresses: [Option<Py<PyAny>>; 2],
}

fn is_true(py: Python<'_>, argument: &Option<Py<PyAny>>) -> PyResult<bool> {
    argument.as_ref().map_or(Ok(false), |argument| argument.is_truthy(py))
}

fn clone(py: Python<'_>, argument: &Option<Py<PyAny>>) -> Option<Py<PyAny>> {
    argument.as_ref().map(|argument| argument.clone_ref(py))
}

impl Wish {
    /// # Errors
    ///
    /// `ValueError` for a stream socket, and for wishes that come too late.
    fn check_socket(&self, sock: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = sock.py();
        if sock.getattr(intern!(py, "type"))?.eq(libc::SOCK_STREAM)? {
            return Err(PyValueError::new_err(format!("A datagram socket was expected, got {}", sock.repr()?)));
        }
        let mut problems = Vec::new();
        for (name, value) in [
            ("local_addr", &self.local_addr),
            ("remote_addr", &self.remote_addr),
            ("family", &self.family),
            ("proto", &self.proto),
            ("flags", &self.flags),
            ("reuse_port", &self.reuse_port),
            ("allow_broadcast", &self.allow_broadcast),
        ] {
            if let Some(value) = value
                && value.is_truthy(py)?
            {
                problems.push(format!("{name}={}", value.bind(py).str()?));
            }
        }
        if !problems.is_empty() {
            let problems = problems.join(", ");
            let text = "socket modifier keyword arguments can not be used when sock is specified.";
            return Err(PyValueError::new_err(format!("{text} ({problems})")));
        }
        sock.call_method1(intern!(py, "setblocking"), (false,)).map(drop)
    }

    async fn candidates(&self, event_loop: &WeakLoop) -> PyResult<Vec<Candidate>> {
        let given = Python::attach(|py| {
            let zero = 0i32.into_pyobject(py)?.into_any().unbind();
            let or_zero = |value: &Option<Py<PyAny>>| value.as_ref().unwrap_or(&zero).clone_ref(py);
            let (family, proto) = (or_zero(&self.family), or_zero(&self.proto));
            if !is_true(py, &self.local_addr)? && !is_true(py, &self.remote_addr)? {
                if family.bind(py).eq(0)? {
                    return Err(PyValueError::new_err("unexpected address family"));
                }
                return Ok(Some(vec![Candidate { family, proto, addresses: [None, None] }]));
            }
            if !family.bind(py).eq(libc::AF_UNIX)? {
                return Ok(None);
            }
            for path in [&self.local_addr, &self.remote_addr].into_iter().flatten() {
                if !path.bind(py).is_instance_of::<PyString>() {
                    return Err(PyTypeError::new_err("string is expected"));
                }
            }
            if let Some(path) = &self.local_addr
                && path.is_truthy(py)?
            {
                remove_stale(path.bind(py))?;
            }
            let addresses = [clone(py, &self.local_addr), clone(py, &self.remote_addr)];
            Ok(Some(vec![Candidate { family, proto, addresses }]))
        })?;
        match given {
            Some(candidates) => Ok(candidates),
            None => self.look_up(event_loop).await,
        }
    }

    /// The sockets that have all addresses asked for, in the order in which their families were found.
    async fn look_up(&self, event_loop: &WeakLoop) -> PyResult<Vec<Candidate>> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for (side, address) in [&self.local_addr, &self.remote_addr].into_iter().enumerate() {
            let Some(address) = address else { continue };
            let query = Python::attach(|py| {
                let pair = address.bind(py).cast::<PyTuple>().ok().filter(|pair| pair.len() == 2);
                let Some(pair) = pair else { return Err(PyTypeError::new_err("2-tuple is expected")) };
                let (host, port) = (pair.get_item(0)?.unbind(), pair.get_item(1)?.unbind());
                Ok(Lookup::new(py, Some(host), Some(port), &self.family, &self.proto, &self.flags)?.for_datagrams())
            })?;
            for info in found(lookup(event_loop, query).await?)? {
                Python::attach(|py| {
                    let info = info.bind(py);
                    let (family, proto, address) = (info.get_item(0)?, info.get_item(2)?, info.get_item(4)?.unbind());
                    for known in &mut candidates {
                        if known.family.bind(py).eq(&family)? && known.proto.bind(py).eq(&proto)? {
                            known.addresses[side] = Some(address);
                            return Ok(());
                        }
                    }
                    let mut addresses = [None, None];
                    addresses[side] = Some(address);
                    candidates.push(Candidate { family: family.unbind(), proto: proto.unbind(), addresses });
                    PyResult::Ok(())
                })?;
            }
        }
        let wanted =
            Python::attach(|py| PyResult::Ok([is_true(py, &self.local_addr)?, is_true(py, &self.remote_addr)?]))?;
        candidates.retain(|one| (0..2).all(|side| !wanted[side] || one.addresses[side].is_some()));
        if candidates.is_empty() {
            return Err(PyValueError::new_err("can not get address information"));
        }
        Ok(candidates)
    }

    fn log_created(&self, event_loop: &Bound<'_, EventLoop>, pair: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = pair.py();
        if !event_loop.as_super().get().debug.get(py) {
            return Ok(());
        }
        let logger = asyncio::logger(py)?;
        let logged = if is_true(py, &self.local_addr)? {
            let text = "Datagram endpoint local_addr=%r remote_addr=%r created: %r";
            logger.call_method1("info", (text, &self.local_addr, &self.remote_addr, pair))
        } else {
            logger.call_method1("debug", ("Datagram endpoint remote_addr=%r created: %r", &self.remote_addr, pair))
        };
        logged.map(drop)
    }

    /// The first socket that can be made, and where it sends.
    fn open_first(&self, py: Python<'_>, candidates: Vec<Candidate>) -> PyResult<(OpenSocket, Option<Py<PyAny>>)> {
        let mut first = None;
        for candidate in candidates {
            match self.open(py, candidate) {
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    first.get_or_insert(error);
                }
                result => return result,
            }
        }
        Err(first.unwrap_or_else(|| PyValueError::new_err("can not get address information")))
    }

    fn open(&self, py: Python<'_>, candidate: Candidate) -> PyResult<(OpenSocket, Option<Py<PyAny>>)> {
        let Candidate { family, proto, addresses: [local, remote] } = candidate;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "family"), family)?;
        keywords.set_item(intern!(py, "type"), libc::SOCK_DGRAM)?;
        keywords.set_item(intern!(py, "proto"), proto)?;
        let class = asyncio::socket_module(py)?.getattr(intern!(py, "socket"))?;
        let socket = OpenSocket::new(class.call((), Some(&keywords))?.unbind());
        let sock = socket.get(py)?;
        let set = |option: i32| sock.call_method1(intern!(py, "setsockopt"), (libc::SOL_SOCKET, option, 1));
        if is_true(py, &self.reuse_port)? {
            set(libc::SO_REUSEPORT).map_err(|error| {
                if !error.is_instance_of::<PyOSError>(py) {
                    return error;
                }
                let text = "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented.";
                PyValueError::new_err(text)
            })?;
        }
        let broadcasts = is_true(py, &self.allow_broadcast)?;
        if broadcasts {
            set(libc::SO_BROADCAST)?;
        }
        sock.call_method1(intern!(py, "setblocking"), (false,))?;
        if let Some(local) = local
            && is_true(py, &self.local_addr)?
        {
            method1(sock, intern!(py, "bind"), local.bind(py))?;
        }
        let remote = if is_true(py, &self.remote_addr)? { remote } else { None };
        if let Some(remote) = &remote
            && !broadcasts
        {
            // There is nobody to wait for: the kernel only writes the address down.
            method1(sock, intern!(py, "connect"), remote.bind(py))?;
        }
        Ok((socket, remote))
    }
}

/// Gives a datagram socket a protocol and a transport; returns both once `connection_made` has been called.
async fn endpoint(
    event_loop: &WeakLoop,
    protocol: Py<PyAny>,
    socket: OpenSocket,
    remote: Option<Py<PyAny>>,
    wish: &Wish,
) -> PyResult<Py<PyAny>> {
    let (waiter, transport) = Python::attach(|py| {
        let this = event_loop.get(py)?;
        let context = context::copy_current(py)?;
        let protocol = protocol.into_bound(py);
        let waiter = Bound::new(py, Future::new(py, EventLoop::loop_ref(&this))?)?;
        let (core, sock) = (this.as_super(), socket.get(py)?.clone());
        let kept = Some(waiter.clone().unbind());
        let new = NewDatagramTransport { core, socket: sock, protocol, context, remote, waiter: kept };
        let transport = DatagramTransport::create(new)?;
        // The transport's now. Both are held weakly: the loop has the transport, which has the waiter's result.
        drop(socket.take());
        let pair = (&transport, transport.get().get_protocol(py)).into_pyobject(py)?;
        wish.log_created(&this, pair.as_any())?;
        PyResult::Ok((waiter.into_any().unbind(), PyWeakrefReference::new(&transport)?.unbind()))
    })?;
    let result = await_(waiter).await;
    if result.is_err() {
        Python::attach(|py| match transport.bind(py).upgrade() {
            Some(transport) => transport.call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        })?;
    }
    result
}
