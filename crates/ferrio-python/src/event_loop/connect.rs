//! Connections that this side makes, or is given.
//!
//! A socket that is being connected belongs to an [`OpenSocket`], which closes it when its coroutine ends in any other
//! way than by a transport; what waits for it to be connected has ended its watch by then, so that no number is closed
//! while it is watched.
//!
//! # Several addresses
//!
//! They are tried one after the other, or, with `happy_eyeballs_delay`, each in a task of its own: the next one begins
//! when the one before has failed, or has taken that long. The first that connects wins; the others are cancelled, and
//! awaited, so that all their sockets are closed before there is a transport.

use std::sync::Arc;

use ferrio::engine::Direction;
use pyo3::exceptions::{PyException, PyGeneratorExit, PyOSError, PyTimeoutError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyWeakrefMethods, PyWeakrefReference};

use super::EventLoop;
use super::dns::{Lookup, lookup};
use super::fds::{WeakLoop, readiness};
use super::sock::{begin_connect, end_connect};
use super::tls::{Side, TlsArguments};
use crate::asyncio;
use crate::contexts::LazyContext;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::call::call0;
use crate::ffi::cell::GilCell;
use crate::futures::Future;
use crate::sslproto::Begin;
use crate::tasks;
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
        signature = (protocol_factory, host=None, port=None, *, ssl=None, family=None, proto=None, flags=None, sock=None,
            local_addr=None, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None,
            happy_eyeballs_delay=None, interleave=None, all_errors=false),
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
        interleave: Option<usize>,
        all_errors: bool,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "create_connection", async move {
            let has_host = host.as_ref().map_or(Ok(false), |host| Python::attach(|py| host.is_truthy(py)))?;
            let mut tls = TlsArguments { ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout };
            tls.check(has_host)?;
            if tls.server_hostname.is_none() {
                tls.server_hostname = host.as_ref().map(|host| Python::attach(|py| host.clone_ref(py)));
            }
            if let Some(sock) = &sock {
                Python::attach(|py| asyncio::check_ssl_socket(py)?.call1((sock,)).map(drop))?;
            }
            let to = Python::attach(|py| format!("{}:{}", shown(py, &host, false), shown(py, &port, true)));
            let socket = if host.is_none() && port.is_none() {
                let Some(sock) = sock else {
                    return Err(PyValueError::new_err("host and port was not specified and no sock specified"));
                };
                check_stream_socket(&sock)?;
                OpenSocket(Some(sock))
            } else {
                if sock.is_some() {
                    let text = "host/port and sock can not be specified at the same time";
                    return Err(PyValueError::new_err(text));
                }
                let lookup_for = |host, port| Python::attach(|py| Lookup::new(py, host, port, &family, &proto, &flags));
                let infos = found(lookup(&event_loop, lookup_for(host, port)?).await?)?;
                let local = match local_addr {
                    Some(address) => {
                        let (host, port) = Python::attach(|py| {
                            let address = address.bind(py);
                            PyResult::Ok((address.get_item(0)?.unbind(), address.get_item(1)?.unbind()))
                        })?;
                        Some(found(lookup(&event_loop, lookup_for(Some(host), Some(port))?).await?)?)
                    }
                    None => None,
                };
                let first = interleave.unwrap_or(usize::from(happy_eyeballs_delay.is_some()));
                let infos = Python::attach(|py| if first == 0 { Ok(infos) } else { interleaved(py, infos, first) })?;
                let attempts = Arc::new(Attempts { infos, local, ..Attempts::default() });
                let socket = match happy_eyeballs_delay {
                    None => attempts.in_turn(&event_loop).await?,
                    Some(delay) => race(&event_loop, &attempts, delay).await?,
                };
                match socket {
                    Some(socket) => socket,
                    None => return Err(Python::attach(|py| attempts.failure(py, all_errors))),
                }
            };
            let pair = establish(&event_loop, socket, protocol_factory, tls, Side::Client).await?;
            Python::attach(|py| log_connected(&event_loop, pair.bind(py), &format!("connected to {to}")))?;
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
        Coroutine::new(slf.py(), "connect_accepted_socket", async move {
            check_stream_socket(&sock)?;
            let tls = TlsArguments { ssl, server_hostname: None, ssl_handshake_timeout, ssl_shutdown_timeout };
            tls.check(true)?;
            Python::attach(|py| asyncio::check_ssl_socket(py)?.call1((&sock,)).map(drop))?;
            let socket = OpenSocket(Some(sock));
            let pair = establish(&event_loop, socket, protocol_factory, tls, Side::Server).await?;
            Python::attach(|py| log_connected(&event_loop, pair.bind(py), "handled"))?;
            Ok(pair)
        })
    }
}

/// How an argument shows in a log.
fn shown(py: Python<'_>, argument: &Option<Py<PyAny>>, repr: bool) -> String {
    let none = py.None();
    let argument = argument.as_ref().unwrap_or(&none).bind(py);
    let text = if repr { argument.repr() } else { argument.str() };
    text.map_or_else(|_| String::new(), |text| text.to_string())
}

fn log_connected(event_loop: &WeakLoop, pair: &Bound<'_, PyAny>, how: &str) -> PyResult<()> {
    let py = pair.py();
    if !event_loop.get(py)?.as_super().get().debug.get(py) {
        return Ok(());
    }
    let socket = pair.get_item(0)?.call_method1(intern!(py, "get_extra_info"), ("socket",))?;
    let logger = asyncio::logger(py)?;
    logger.call_method1("debug", ("%r %s: %r", socket, how, pair)).map(drop)
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

/// The addresses that a lookup has found.
pub(super) fn found(infos: Py<PyAny>) -> PyResult<Vec<Py<PyAny>>> {
    let infos = Python::attach(|py| infos.bind(py).try_iter()?.map(|info| info.map(Bound::unbind)).collect());
    match infos {
        Ok(infos) if Vec::is_empty(&infos) => Err(PyOSError::new_err("getaddrinfo() returned empty list")),
        infos => infos,
    }
}

/// The addresses with their families in turn, behind the first ones of the first family.
fn interleaved(py: Python<'_>, infos: Vec<Py<PyAny>>, first: usize) -> PyResult<Vec<Py<PyAny>>> {
    let mut families: Vec<(i32, std::collections::VecDeque<Py<PyAny>>)> = Vec::new();
    for info in infos {
        let family = info.bind(py).get_item(0)?.extract()?;
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, group)) => group.push_back(info),
            None => families.push((family, [info].into())),
        }
    }
    let mut ordered = Vec::new();
    if let Some((_, group)) = families.first_mut() {
        ordered.extend(group.drain(..(first - 1).min(group.len())));
    }
    while families.iter().any(|(_, group)| !group.is_empty()) {
        ordered.extend(families.iter_mut().filter_map(|(_, group)| group.pop_front()));
    }
    Ok(ordered)
}

/// A socket that is closed when this goes, unless it has been taken.
pub(super) struct OpenSocket(Option<Py<PyAny>>);

impl OpenSocket {
    pub(super) fn new(socket: Py<PyAny>) -> Self {
        Self(Some(socket))
    }

    /// Gives the socket to who closes it from now on.
    pub(super) fn take(mut self) -> Option<Py<PyAny>> {
        self.0.take()
    }

    pub(super) fn get<'a, 'py>(&'a self, py: Python<'py>) -> PyResult<&'a Bound<'py, PyAny>> {
        match &self.0 {
            Some(socket) => Ok(socket.bind(py)),
            None => Err(PyOSError::new_err("the socket was taken")),
        }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let Some(socket) = self.0.take() else { return };
        // At the end of the interpreter the process's end closes it.
        _ = Python::try_attach(|py| {
            // An exception that is being handled must be there afterwards too.
            let raised = PyErr::take(py);
            // What closing a socket that never was connected reports is of no use to anybody.
            _ = socket.into_bound(py).call_method0(intern!(py, "close"));
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}

/// The attempts to connect to one host.
#[derive(Default)]
struct Attempts {
    infos: Vec<Py<PyAny>>,
    /// Where to connect from; `None` for wherever.
    local: Option<Vec<Py<PyAny>>>,
    /// What failed, in the order in which the attempts were begun.
    errors: GilCell<Vec<(usize, PyErr)>>,
    /// How a race ended: the first socket that connected, or what is not for another attempt to mend.
    outcome: GilCell<Option<PyResult<OpenSocket>>>,
}

impl Attempts {
    /// Tries one address after the other.
    async fn in_turn(&self, event_loop: &WeakLoop) -> PyResult<Option<OpenSocket>> {
        for index in 0..self.infos.len() {
            if let Some(socket) = self.attempt(event_loop, index).await? {
                return Ok(Some(socket));
            }
        }
        Ok(None)
    }

    /// One attempt; `None` if it failed, as networks do.
    async fn attempt(&self, event_loop: &WeakLoop, index: usize) -> PyResult<Option<OpenSocket>> {
        match self.connect(event_loop, index).await {
            Ok(socket) => Ok(Some(socket)),
            Err(error) => Python::attach(|py| {
                if !error.is_instance_of::<PyOSError>(py) {
                    return Err(error);
                }
                self.errors.with(py, |errors| errors.push((index, error)));
                Ok(None)
            }),
        }
    }

    async fn connect(&self, event_loop: &WeakLoop, index: usize) -> PyResult<OpenSocket> {
        let mut socket = OpenSocket(None);
        let (address, waits) = Python::attach(|py| {
            let info = self.infos[index].bind(py);
            let keywords = PyDict::new(py);
            for (position, name) in ["family", "type", "proto"].into_iter().enumerate() {
                keywords.set_item(name, info.get_item(position)?)?;
            }
            // Looked up for every call: programs replace it.
            let class = py.import("socket")?.getattr(intern!(py, "socket"))?;
            socket.0 = Some(class.call((), Some(&keywords))?.unbind());
            let sock = socket.get(py)?;
            sock.call_method1(intern!(py, "setblocking"), (false,))?;
            self.bind_locally(sock, index, &info.get_item(0)?)?;
            let address = info.get_item(4)?;
            let waits = begin_connect(sock, &address)?;
            PyResult::Ok((address.unbind(), waits))
        })?;
        if waits {
            let fd = Python::attach(|py| socket.get(py)?.call_method0(intern!(py, "fileno"))?.extract())?;
            readiness(event_loop, fd, Direction::Write).await?;
            Python::attach(|py| end_connect(socket.get(py)?, address.bind(py)))?;
        }
        Ok(socket)
    }

    /// Binds to the first local address of the family that can be bound to.
    fn bind_locally(&self, sock: &Bound<'_, PyAny>, index: usize, family: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = sock.py();
        let Some(local) = &self.local else { return Ok(()) };
        let mut last = None;
        for info in local {
            let info = info.bind(py);
            if !info.get_item(0)?.eq(family)? {
                continue;
            }
            let address = info.get_item(4)?;
            match sock.call_method1(intern!(py, "bind"), (&address,)) {
                Ok(_) => return Ok(()),
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    let value = error.value(py);
                    let text = value.str()?.to_string().to_lowercase();
                    let text = format!("error while attempting to bind on address {}: {text}", address.repr()?);
                    let number = value.getattr(intern!(py, "errno"))?;
                    let error = PyErr::from_value(py.get_type::<PyOSError>().call1((number, text))?);
                    if let Some(before) = last.replace(error) {
                        self.errors.with(py, |errors| errors.push((index, before)));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            let family = family.repr().map_or_else(|_| String::new(), |family| family.to_string());
            PyOSError::new_err(format!("no matching local address with family={family} found"))
        }))
    }

    /// What is raised when no address could be connected to.
    fn failure(&self, py: Python<'_>, all: bool) -> PyErr {
        let mut errors = self.errors.take(py);
        errors.sort_by_key(|(index, _)| *index);
        let errors: Vec<PyErr> = errors.into_iter().map(|(_, error)| error).collect();
        if all {
            let values = errors.iter().map(|error| error.value(py).clone()).collect::<Vec<_>>();
            let group = PyList::new(py, values).and_then(|errors| {
                let class = py.import("builtins")?.getattr(intern!(py, "ExceptionGroup"))?;
                class.call1(("create_connection failed", errors))
            });
            return group.map_or_else(|error| error, PyErr::from_value);
        }
        let texts: Vec<String> = errors.iter().map(|error| error.value(py).to_string()).collect();
        let are_same = texts.iter().all(|text| Some(text) == texts.first());
        match errors.into_iter().next() {
            Some(first) if are_same => first,
            Some(_) => PyOSError::new_err(format!("Multiple exceptions: {}", texts.join(", "))),
            None => PyTimeoutError::new_err("create_connection failed"),
        }
    }
}

/// Tries the addresses, the next one whenever one fails or `delay` seconds have passed: the socket that connects first.
async fn race(event_loop: &WeakLoop, attempts: &Arc<Attempts>, delay: f64) -> PyResult<Option<OpenSocket>> {
    let mut runners = Runners(Vec::new());
    let mut failure = None;
    for index in 0..=attempts.infos.len() {
        let is_last = index == attempts.infos.len();
        let waiting = Python::attach(|py| {
            if !is_last {
                runners.begin(&event_loop.get(py)?, attempts, index)?;
            }
            runners.wait(py, if is_last { None } else { Some(delay) }, is_last)
        });
        let waited = match waiting {
            Ok(Some(waiting)) => await_(waiting).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        failure = waited.err();
        if failure.is_some() || Python::attach(|py| attempts.outcome.with(py, |outcome| outcome.is_some())) {
            break;
        }
    }
    // Losers are cancelled, and gone, before there is an answer; also when the race itself was cancelled, even twice.
    while let Some(ending) = Python::attach(|py| runners.cancel(py).and_then(|()| runners.wait(py, None, true)))? {
        if is_exit(&failure) {
            break;
        }
        if let Err(error) = await_(ending).await {
            failure = Some(error);
        }
    }
    let outcome = Python::attach(|py| attempts.outcome.take(py));
    match failure {
        Some(error) => Err(error),
        None => outcome.transpose(),
    }
}

/// Whether the coroutine is being closed, and must not wait for anything.
fn is_exit(failure: &Option<PyErr>) -> bool {
    failure.as_ref().is_some_and(|error| Python::attach(|py| error.is_instance_of::<PyGeneratorExit>(py)))
}

/// The tasks of a race. The loop keeps them; a body must not, because the collector does not look inside.
struct Runners(Vec<Py<PyWeakrefReference>>);

impl Runners {
    fn begin(&mut self, event_loop: &Bound<'_, EventLoop>, attempts: &Arc<Attempts>, index: usize) -> PyResult<()> {
        let py = event_loop.py();
        let weak_loop = WeakLoop::new(event_loop)?;
        let attempts = Arc::clone(attempts);
        let body = Coroutine::new(py, "connect", async move {
            let outcome = attempts.attempt(&weak_loop, index).await.transpose();
            Python::attach(|py| {
                if let Some(Err(error)) = &outcome
                    && !error.is_instance_of::<PyException>(py)
                {
                    // A cancellation, for one, is the task's own end.
                    return Err(error.clone_ref(py));
                }
                // Two can connect in one turn: the second one is closed, outside of the borrow.
                let second = attempts
                    .outcome
                    .with(py, |own| if own.is_none() { std::mem::replace(own, outcome) } else { outcome });
                drop(second);
                Ok(py.None())
            })
        })?;
        let task = event_loop.call_method1(intern!(py, "create_task"), (body,))?;
        self.0.push(PyWeakrefReference::new(&task)?.unbind());
        Ok(())
    }

    fn pending<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut pending = Vec::new();
        for task in self.0.iter().filter_map(|weak| weak.bind(py).upgrade()) {
            if !task.call_method0(intern!(py, "done"))?.is_truthy()? {
                pending.push(task);
            }
        }
        Ok(pending)
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.pending(py)?.into_iter().try_for_each(|task| task.call_method0(intern!(py, "cancel")).map(drop))
    }

    /// What to await until one of the tasks, or `all` of them, are done; `None` if they are.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>, all: bool) -> PyResult<Option<Py<PyAny>>> {
        let pending = self.pending(py)?;
        if pending.is_empty() {
            return Ok(None);
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "timeout"), timeout)?;
        keywords.set_item(intern!(py, "return_when"), if all { "ALL_COMPLETED" } else { "FIRST_COMPLETED" })?;
        tasks::function(py, "wait")?.call((pending,), Some(&keywords)).map(|waiting| Some(waiting.unbind()))
    }
}

/// Gives a connected socket a protocol and a transport, a TLS transport on top if that is asked for; returns the one to use
/// and the protocol, once `connection_made` has been called.
pub(super) async fn establish(
    event_loop: &WeakLoop,
    mut socket: OpenSocket,
    factory: Py<PyAny>,
    tls: TlsArguments,
    side: Side,
) -> PyResult<Py<PyAny>> {
    let (waiter, transport) = Python::attach(|py| {
        let this = event_loop.get(py)?;
        let sock = socket.get(py)?;
        sock.call_method1(intern!(py, "setblocking"), (false,))?;
        let context = LazyContext::new(py, None)?;
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
        drop(socket.0.take());
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
