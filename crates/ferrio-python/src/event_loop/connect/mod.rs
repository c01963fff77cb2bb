//! Connections that this side makes, or is given.
//!
//! | file | noun |
//! |---|---|
//! | [`open_socket`] | a socket before it has a transport |
//! | [`attempts`] | the addresses of a host, and the attempts to connect to them |
//!
//! A socket that is being connected belongs to an [`OpenSocket`], which closes it when its coroutine ends in any other
//! way than by a transport; what waits for it to be connected has ended its watch by then, so that no number is closed
//! while it is watched.

mod attempts;
mod open_socket;

pub(super) use attempts::found;
pub(super) use open_socket::OpenSocket;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use self::attempts::{Destination, How};
use super::EventLoop;
use super::tls::{Side, TlsArguments};
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::contexts::LazyContext;
use crate::convert::Truth;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::call::call0;
use crate::futures::Future;
use crate::sslproto::Begin;
use crate::transports::{Endpoint, NewSocketTransport, SocketTransport};

#[pymethods]
impl EventLoop {
    /// Connects to `host` and `port`, or takes the connected socket `sock`; returns the transport and the protocol that
    /// `protocol_factory()` made.
    ///
    /// `happy_eyeballs_delay` is in seconds. Raises ValueError for arguments that contradict each other, OSError if no
    /// address can be connected to (with `all_errors` an ExceptionGroup of the errors of all), ssl.SSLError if the TLS
    /// handshake fails, ConnectionAbortedError if it takes too long.
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    #[pyo3(
        signature = (protocol_factory, host=None, port=None, *, ssl=None, family=None, proto=None, flags=None,
            sock=None, local_addr=None, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None,
            happy_eyeballs_delay=None, interleave=None, all_errors=Truth(false)),
        text_signature = "($self, protocol_factory, host=None, port=None, *, ssl=None, family=0, proto=0, flags=0, \
            sock=None, local_addr=None, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None, \
            happy_eyeballs_delay=None, interleave=None, all_errors=False)"
    )]
    fn create_connection<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        host: Option<Py<PyAny>>,
        port: Option<Py<PyAny>>,
        ssl: Option<Py<PyAny>>,
        family: Option<Py<PyAny>>,
        proto: Option<Py<PyAny>>,
        flags: Option<Py<PyAny>>,
        sock: Option<Py<PyAny>>,
        local_addr: Option<Py<PyAny>>,
        server_hostname: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
        happy_eyeballs_delay: Option<f64>,
        interleave: Option<i64>,
        all_errors: Truth,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.create_connection", async move {
            let has_host = host.as_ref().map_or(Ok(false), |host| Python::attach(|py| host.is_truthy(py)))?;
            let mut tls = TlsArguments { ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout };
            tls.check(has_host)?;
            if tls.server_hostname.is_none() {
                tls.server_hostname = host.as_ref().map(|host| Python::attach(|py| host.clone_ref(py)));
            }
            if let Some(sock) = &sock {
                Python::attach(|py| asyncio::check_ssl_socket(py)?.call1((sock,)).map(drop))?;
            }
            let to = Python::attach(|py| {
                [&host, &port].map(|part| part.as_ref().map_or_else(|| py.None(), |part| part.clone_ref(py)))
            });
            let socket = if host.is_none() && port.is_none() {
                let Some(sock) = sock else {
                    return Err(PyValueError::new_err("host and port was not specified and no sock specified"));
                };
                check_stream_socket(&sock)?;
                OpenSocket::new(sock)
            } else {
                if sock.is_some() {
                    let text = "host/port and sock can not be specified at the same time";
                    return Err(PyValueError::new_err(text));
                }
                let (hints, how) =
                    ([family, proto, flags], How { happy_eyeballs_delay, interleave, all_errors: all_errors.0 });
                Destination { host, port, hints, local_addr }.connect(&event_loop, &how).await?
            };
            let pair = establish(&event_loop, socket, protocol_factory, tls, Side::Client).await?;
            let text = "%r connected to %s:%r: (%r, %r)";
            Python::attach(|py| log_connected(&event_loop, pair.bind(py), text, &to))?;
            Ok(pair)
        })
    }

    /// Takes a connection that was accepted elsewhere; returns the transport and the protocol that `protocol_factory()`
    /// made.
    ///
    /// Raises ValueError for what is no stream socket, ssl.SSLError if the TLS handshake fails.
    #[pyo3(signature = (protocol_factory, sock, *, ssl=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None))]
    fn connect_accepted_socket<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        sock: Py<PyAny>,
        ssl: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.connect_accepted_socket", async move {
            check_stream_socket(&sock)?;
            let tls = TlsArguments { ssl, server_hostname: None, ssl_handshake_timeout, ssl_shutdown_timeout };
            tls.check(true)?;
            Python::attach(|py| asyncio::check_ssl_socket(py)?.call1((&sock,)).map(drop))?;
            let socket = OpenSocket::new(sock);
            let pair = establish(&event_loop, socket, protocol_factory, tls, Side::Server).await?;
            Python::attach(|py| log_connected(&event_loop, pair.bind(py), "%r handled: (%r, %r)", &[]))?;
            Ok(pair)
        })
    }
}

/// Tells of a new connection in debug mode. `text` takes the socket, what is in `from`, the transport and the protocol.
fn log_connected(event_loop: &WeakLoop, pair: &Bound<'_, PyAny>, text: &str, from: &[Py<PyAny>]) -> PyResult<()> {
    let py = pair.py();
    if !event_loop.get(py)?.as_super().get().debug.get(py) {
        return Ok(());
    }
    let (transport, protocol) = (pair.get_item(0)?, pair.get_item(1)?);
    let socket = transport.call_method1(intern!(py, "get_extra_info"), ("socket",))?;
    let from = from.iter().map(|argument| argument.clone_ref(py).into_bound(py));
    let text = PyString::new(py, text).into_any();
    let arguments = [text, socket].into_iter().chain(from).chain([transport, protocol]).collect::<Vec<_>>();
    asyncio::logger(py)?.call_method1("debug", PyTuple::new(py, arguments)?).map(drop)
}

/// # Errors
///
/// `ValueError` unless it is a stream socket.
pub(super) fn check_stream_socket(sock: &Py<PyAny>) -> PyResult<()> {
    Python::attach(|py| {
        let sock = sock.bind(py);
        if sock.getattr(intern!(py, "type"))?.eq(libc::SOCK_STREAM)? {
            return Ok(());
        }
        Err(PyValueError::new_err(format!("A Stream Socket was expected, got {}", sock.repr()?)))
    })
}

/// Gives a connected socket a protocol and a transport, a TLS transport on top if that is asked for; returns the one to
/// use and the protocol, once `connection_made` has been called.
pub(super) async fn establish(
    event_loop: &WeakLoop,
    socket: OpenSocket,
    factory: Py<PyAny>,
    tls: TlsArguments,
    side: Side,
) -> PyResult<Py<PyAny>> {
    let (waiter, transport) = Python::attach(|py| {
        let this = event_loop.get(py)?;
        let sock = socket.get(py)?;
        sock.call_method1(intern!(py, "setblocking"), (false,))?;
        let context = Some(LazyContext::new(py, None)?);
        let protocol = call0(factory.bind(py))?;
        let waiter = Bound::new(py, Future::new(py, EventLoop::loop_ref(&this))?)?;
        let endpoint = Endpoint::Socket(sock.clone().unbind());
        let (core, kept) = (this.as_super(), waiter.clone().unbind());
        let (protocol, kept, secure) =
            match tls.wrap(core, protocol.clone(), side, Begin::Connect(kept.clone_ref(py)))? {
                Some(secure) => (secure.as_any().clone(), None, Some(secure)),
                None => (protocol, Some(kept), None),
            };
        let new = NewSocketTransport {
            core,
            endpoint,
            protocol,
            context,
            peer: None,
            has_nodelay: false,
            waiter: kept,
            server: None,
        };
        let transport = SocketTransport::create(new)?;
        // The transport's now. Both are held weakly: the loop has the transport, which has the waiter's result.
        drop(socket.take());
        let transport = match &secure {
            Some(secure) => secure.get().transport(py).as_any(),
            None => transport.as_any(),
        };
        PyResult::Ok((waiter.into_any().unbind(), PyWeakrefReference::new(transport)?.unbind()))
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
