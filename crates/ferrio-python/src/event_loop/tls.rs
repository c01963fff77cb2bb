//! What TLS is asked for by, and connections that become TLS connections.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyWeakrefMethods, PyWeakrefReference};

use super::EventLoop;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::contexts::LazyContext;
use crate::convert::Truth;
use crate::coroutine::{Coroutine, await_};
use crate::futures::Future;
use crate::loop_ref::LoopCore;
use crate::sslproto::{Accept, Begin, NewTlsTransport, TlsProtocol, TlsTransport, aborted};
use crate::transports::{Endpoint, NewSocketTransport, Server, SocketTransport};

/// The arguments that only matter for TLS.
pub(super) struct TlsArguments {
    pub(super) ssl: Option<Py<PyAny>>,
    pub(super) server_hostname: Option<Py<PyAny>>,
    pub(super) ssl_handshake_timeout: Option<Py<PyAny>>,
    pub(super) ssl_shutdown_timeout: Option<Py<PyAny>>,
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl TlsArguments {
    /// # Errors
    ///
    /// `ValueError` for what contradicts.
    pub(super) fn check(&self, has_host: bool) -> PyResult<()> {
        let given = [
            ("server_hostname", &self.server_hostname),
            ("ssl_handshake_timeout", &self.ssl_handshake_timeout),
            ("ssl_shutdown_timeout", &self.ssl_shutdown_timeout),
        ];
        if !self.is_wanted()? {
            return match given.into_iter().find(|(_, value)| value.is_some()) {
                Some((name, _)) => Err(PyValueError::new_err(format!("{name} is only meaningful with ssl"))),
                None => Ok(()),
            };
        }
        if self.server_hostname.is_none() && !has_host {
            return Err(PyValueError::new_err("You must set server_hostname when using ssl without a host"));
        }
        Ok(())
    }

    fn is_wanted(&self) -> PyResult<bool> {
        self.ssl.as_ref().map_or(Ok(false), |ssl| Python::attach(|py| ssl.is_truthy(py)))
    }

    /// A TLS transport for `protocol`, and what the socket's transport is to have as its protocol; `None` if TLS is not
    /// asked for.
    pub(super) fn wrap<'py>(
        &self,
        core: &Bound<'py, LoopCore>,
        protocol: Bound<'py, PyAny>,
        side: Side,
        begin: Begin,
    ) -> PyResult<Option<Bound<'py, TlsProtocol>>> {
        let py = core.py();
        if !self.is_wanted()? {
            return Ok(None);
        }
        let bind = |argument: &'_ Option<Py<PyAny>>| argument.as_ref().map(|argument| argument.bind(py).clone());
        let ssl_context = bind(&self.ssl).filter(|ssl| !ssl.is_instance_of::<PyBool>());
        TlsTransport::create(&NewTlsTransport {
            core,
            protocol,
            ssl_context: ssl_context.as_ref(),
            server_side: side == Side::Server,
            server_hostname: bind(&self.server_hostname).as_ref(),
            handshake_timeout: bind(&self.ssl_handshake_timeout).as_ref(),
            shutdown_timeout: bind(&self.ssl_shutdown_timeout).as_ref(),
            begin,
        })
        .map(Some)
    }

    /// A server's factory: `factory`, unless TLS is asked for.
    pub(super) fn wrap_factory(self, core: &Bound<'_, LoopCore>, factory: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let py = core.py();
        match self.ssl {
            Some(ssl_context) if ssl_context.is_truthy(py)? => {
                let accept = Accept {
                    core: core.clone().unbind(),
                    factory,
                    ssl_context,
                    handshake_timeout: self.ssl_handshake_timeout,
                    shutdown_timeout: self.ssl_shutdown_timeout,
                };
                Ok(Bound::new(py, accept)?.into_any().unbind())
            }
            _ => Ok(factory),
        }
    }
}

#[pymethods]
impl EventLoop {
    /// Makes a TLS connection of a connected socket; returns the transport at once. `waiter`, a future, gets None when
    /// the handshake is over and the protocol's `connection_made` was called, or the exception why not.
    ///
    /// What libraries use that have an asyncio of their own. Raises RuntimeError if another transport has the socket.
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    #[pyo3(
        signature = (rawsock, protocol, sslcontext, waiter=None, *, server_side=Truth(false), server_hostname=None,
            extra=None, server=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None),
        text_signature = "($self, rawsock, protocol, sslcontext, waiter=None, *, server_side=False, \
            server_hostname=None, extra=None, server=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None)"
    )]
    fn _make_ssl_transport<'py>(
        slf: &Bound<'py, Self>,
        rawsock: Py<PyAny>,
        protocol: Bound<'py, PyAny>,
        sslcontext: Option<Py<PyAny>>,
        waiter: Option<Py<PyAny>>,
        server_side: Truth,
        server_hostname: Option<Py<PyAny>>,
        extra: Option<Py<PyAny>>,
        server: Option<Bound<'py, PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        // What it would say is asked of the socket.
        drop(extra);
        let ssl = Some(sslcontext.unwrap_or_else(|| PyBool::new(py, true).to_owned().into_any().unbind()));
        let arguments = TlsArguments { ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout };
        let side = if server_side.0 { Side::Server } else { Side::Client };
        let Some(secure) = arguments.wrap(slf.as_super(), protocol, side, Begin::Tell(waiter))? else {
            return Err(PyTypeError::new_err("sslcontext is expected to be an instance of ssl.SSLContext"));
        };
        SocketTransport::create(NewSocketTransport {
            core: slf.as_super(),
            endpoint: Endpoint::Socket(rawsock),
            protocol: secure.clone().into_any(),
            context: Some(LazyContext::new(py, None)?),
            peer: None,
            has_nodelay: false,
            waiter: None,
            server: server.as_ref().and_then(|server| server.cast::<Server>().ok()),
        })?;
        Ok(secure.get().transport(py).clone().into_any())
    }

    /// Makes a TLS connection of one that stands, both sides of it agreeing when; returns the transport that `protocol`
    /// uses from then on.
    ///
    /// `ssl_handshake_timeout` and `ssl_shutdown_timeout` are in seconds, 60 and 30 unless they are given. Raises
    /// TypeError for what is no ssl.SSLContext and for transports that cannot be built on, ssl.SSLError if the
    /// handshake fails, ConnectionAbortedError if it takes too long or if the transport is closing.
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    #[pyo3(
        signature = (transport, protocol, sslcontext, *, server_side=Truth(false), server_hostname=None,
            ssl_handshake_timeout=None, ssl_shutdown_timeout=None),
        text_signature = "($self, transport, protocol, sslcontext, *, server_side=False, server_hostname=None, \
            ssl_handshake_timeout=None, ssl_shutdown_timeout=None)"
    )]
    fn start_tls<'py>(
        slf: &Bound<'py, Self>,
        transport: Py<PyAny>,
        protocol: Py<PyAny>,
        sslcontext: Py<PyAny>,
        server_side: Truth,
        server_hostname: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.start_tls", async move {
            let begun = Python::attach(|py| {
                let this = event_loop.get(py)?;
                let arguments = TlsArguments {
                    ssl: Some(sslcontext),
                    server_hostname,
                    ssl_handshake_timeout,
                    ssl_shutdown_timeout,
                };
                let side = if server_side.0 { Side::Server } else { Side::Client };
                upgrade(&this, transport.bind(py), protocol.bind(py), &arguments, side)
            })?;
            let result = await_(begun.waiter).await;
            if result.is_err() {
                Python::attach(|py| {
                    for (held, method) in
                        [(begun.transport, "close"), (begun.made, "cancel"), (begun.resumed, "cancel")]
                    {
                        held.get(py).map_or(Ok(()), |object| object.call_method0(method).map(drop))?;
                    }
                    PyResult::Ok(())
                })?;
            }
            result
        })
    }
}

/// A connection on its way to TLS, as the body of a coroutine knows it: the collector does not see what a body holds.
struct Upgrade {
    /// Gets the new transport.
    waiter: Py<PyAny>,
    transport: Held,
    /// The handles that will begin the handshake, and have the transport below read.
    made: Held,
    resumed: Held,
}

/// An object that somebody else keeps alive.
enum Held {
    Weakly(Py<PyWeakrefReference>),
    /// It has no weak references.
    Strongly(Py<PyAny>),
}

impl Held {
    fn new(object: &Bound<'_, PyAny>) -> Self {
        match PyWeakrefReference::new(object) {
            Ok(reference) => Self::Weakly(reference.unbind()),
            Err(_) => Self::Strongly(object.clone().unbind()),
        }
    }

    fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Weakly(reference) => reference.bind(py).upgrade(),
            Self::Strongly(object) => Some(object.bind(py).clone()),
        }
    }
}

fn upgrade(
    event_loop: &Bound<'_, EventLoop>,
    transport: &Bound<'_, PyAny>,
    protocol: &Bound<'_, PyAny>,
    arguments: &TlsArguments,
    side: Side,
) -> PyResult<Upgrade> {
    let py = transport.py();
    if let Some(context) = &arguments.ssl
        && !context.bind(py).is_instance(asyncio::ssl_context_class(py)?)?
    {
        let text =
            format!("sslcontext is expected to be an instance of ssl.SSLContext, got {}", context.bind(py).repr()?);
        return Err(PyTypeError::new_err(text));
    }
    let is_compatible = match transport.getattr_opt(intern!(py, "_start_tls_compatible"))? {
        Some(answer) => answer.is_truthy()?,
        None => false,
    };
    if !is_compatible {
        let text = format!("transport {} is not supported by start_tls()", transport.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    let waiter = Bound::new(py, Future::new(py, EventLoop::loop_ref(event_loop))?)?;
    let begin = Begin::Upgrade(waiter.clone().unbind());
    let Some(secure) = arguments.wrap(event_loop.as_super(), protocol.clone(), side, begin)? else {
        // A context that says of itself that it is false.
        return Err(PyTypeError::new_err("sslcontext is expected to be an instance of ssl.SSLContext"));
    };
    // One that is lost already tells nobody any more: the handshake would wait for as long as it may.
    if transport.call_method0(intern!(py, "is_closing"))?.is(PyBool::new(py, true)) {
        // Nobody is to be warned of it.
        secure.get().transport(py).call_method0(intern!(py, "close"))?;
        return Err(aborted());
    }
    // Nothing is received before the handshake has begun.
    transport.call_method0(intern!(py, "pause_reading"))?;
    if side == Side::Server {
        secure.get().take_buffered(protocol)?;
    }
    transport.call_method1(intern!(py, "set_protocol"), (&secure,))?;
    let call_soon = intern!(py, "call_soon");
    let made = event_loop.call_method1(call_soon, (secure.getattr(intern!(py, "connection_made"))?, transport))?;
    let resumed = event_loop.call_method1(call_soon, (transport.getattr(intern!(py, "resume_reading"))?,))?;
    Ok(Upgrade {
        waiter: waiter.into_any().unbind(),
        transport: Held::new(transport),
        made: Held::new(&made),
        resumed: Held::new(&resumed),
    })
}
