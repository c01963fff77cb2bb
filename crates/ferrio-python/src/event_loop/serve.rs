//! Servers.

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PySet, PyString, PyTuple};

use super::EventLoop;
use super::connect::check_stream_socket;
use super::dns::{Lookup, lookup};
use super::tls::TlsArguments;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::convert::Truth;
use crate::coroutine::{Coroutine, await_};
use crate::tasks;
use crate::transports::{Server, SocketFile};

#[pymethods]
impl EventLoop {
    /// A server that listens on `host`, a name, several names, or every address if it is None or empty, and `port`, or
    /// on the bound socket `sock`. Each connection gets a protocol that `protocol_factory()` made.
    ///
    /// With `ssl`, an ssl.SSLContext, connections are TLS connections, and a protocol is told of one when its handshake
    /// is over. Raises ValueError for arguments that contradict each other, OSError if no address can be bound to.
    /// `keep_alive` is asyncio's since 3.15.
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    #[pyo3(
        signature = (protocol_factory, host=None, port=None, *, family=None, flags=None, sock=None, backlog=100,
            ssl=None, reuse_address=None, reuse_port=None, keep_alive=None, ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None, start_serving=Truth(true)),
        text_signature = "($self, protocol_factory, host=None, port=None, *, family=0, flags=1, sock=None, \
            backlog=100, ssl=None, reuse_address=None, reuse_port=None, keep_alive=None, ssl_handshake_timeout=None, \
            ssl_shutdown_timeout=None, start_serving=True)"
    )]
    fn create_server<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        host: Option<Py<PyAny>>,
        port: Option<Py<PyAny>>,
        family: Option<Py<PyAny>>,
        flags: Option<Py<PyAny>>,
        sock: Option<Py<PyAny>>,
        backlog: i32,
        ssl: Option<Py<PyAny>>,
        reuse_address: Option<Truth>,
        reuse_port: Option<Truth>,
        keep_alive: Option<Truth>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
        start_serving: Truth,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.create_server", async move {
            if Python::attach(|py| ssl.as_ref().is_some_and(|ssl| ssl.bind(py).is_instance_of::<PyBool>())) {
                return Err(PyTypeError::new_err("ssl argument must be an SSLContext or None"));
            }
            let tls = TlsArguments { ssl, server_hostname: None, ssl_handshake_timeout, ssl_shutdown_timeout };
            tls.check(true)?;
            if let Some(sock) = &sock {
                Python::attach(|py| asyncio::check_ssl_socket(py)?.call1((sock,)).map(drop))?;
            }
            let sockets = if host.is_none() && port.is_none() {
                let Some(sock) = sock else {
                    return Err(PyValueError::new_err("Neither host/port nor sock were specified"));
                };
                check_stream_socket(&sock)?;
                vec![sock]
            } else {
                if sock.is_some() {
                    let text = "host/port and sock can not be specified at the same time";
                    return Err(PyValueError::new_err(text));
                }
                let infos = addresses(&event_loop, host, port, family, flags).await?;
                let options = Options {
                    reuse_address: reuse_address.is_none_or(|given| given.0),
                    reuse_port: reuse_port.is_some_and(|given| given.0),
                    keep_alive: keep_alive.is_some_and(|given| given.0),
                };
                Python::attach(|py| options.bind_all(&event_loop.get(py)?, infos.bind(py)))?
            };
            let sockets = sockets.into_iter().map(|sock| (sock, None)).collect();
            serve(&event_loop, sockets, protocol_factory, tls, backlog, start_serving.0).await
        })
    }
}

/// Makes a server of sockets that are bound, each with the file that the server is to remove, and begins to serve.
pub(super) async fn serve(
    event_loop: &WeakLoop,
    sockets: Vec<(Py<PyAny>, Option<SocketFile>)>,
    factory: Py<PyAny>,
    tls: TlsArguments,
    backlog: i32,
    start_serving: bool,
) -> PyResult<Py<PyAny>> {
    let (server, turn) = Python::attach(|py| {
        for (sock, _) in &sockets {
            sock.bind(py).call_method1(intern!(py, "setblocking"), (false,))?;
        }
        let this = event_loop.get(py)?;
        let factory = tls.wrap_factory(this.as_super(), factory)?;
        let server = Server::create(this.as_super(), sockets, factory, backlog)?;
        let turn = if start_serving {
            Server::start(&server).inspect_err(|_| {
                // The error that led here is the one to tell.
                _ = Server::close(&server);
            })?;
            Some(tasks::function(py, "sleep")?.call1((0,))?.unbind())
        } else {
            None
        };
        PyResult::Ok((server.unbind(), turn))
    })?;
    if let Some(turn) = turn
        && let Err(error) = await_(turn).await
    {
        // Nobody will ever hear of this server.
        Python::attach(|py| Server::close(server.bind(py)))?;
        return Err(error);
    }
    Python::attach(|py| {
        if event_loop.get(py)?.as_super().get().debug.get(py) {
            asyncio::logger(py)?.call_method1("info", ("%r is serving", &server))?;
        }
        Ok(server.into_any())
    })
}

/// The addresses of all hosts, each once.
async fn addresses(
    event_loop: &WeakLoop,
    host: Option<Py<PyAny>>,
    port: Option<Py<PyAny>>,
    family: Option<Py<PyAny>>,
    flags: Option<Py<PyAny>>,
) -> PyResult<Py<PySet>> {
    let lookups = Python::attach(|py| {
        let passive = libc::AI_PASSIVE.into_pyobject(py)?.into_any().unbind();
        let flags = Some(flags.unwrap_or(passive));
        let hosts = hosts(py, host)?;
        let lookups = hosts.into_iter().map(|host| {
            let port = port.as_ref().map(|port| port.clone_ref(py));
            let shown = host.as_ref().map_or_else(|| Ok("None".to_owned()), |host| repr(host.bind(py)))?;
            let lookup_for = Lookup::new(py, host, port, &family, &None, &flags)?;
            let event_loop = WeakLoop::new(&event_loop.get(py)?)?;
            Coroutine::new(py, "BaseEventLoop._create_server_getaddrinfo", async move {
                let infos = lookup(&event_loop, lookup_for).await?;
                if Python::attach(|py| infos.is_truthy(py))? {
                    return Ok(infos);
                }
                Err(PyOSError::new_err(format!("getaddrinfo({shown}) returned empty list")))
            })
        });
        let lookups = PyTuple::new(py, lookups.collect::<PyResult<Vec<_>>>()?)?;
        tasks::function(py, "gather")?.call1(lookups).map(Bound::unbind)
    })?;
    let found = await_(lookups).await?;
    Python::attach(|py| {
        let addresses = PySet::empty(py)?;
        for infos in found.bind(py).try_iter()? {
            for info in infos?.try_iter()? {
                addresses.add(info?)?;
            }
        }
        Ok(addresses.unbind())
    })
}

fn hosts(py: Python<'_>, host: Option<Py<PyAny>>) -> PyResult<Vec<Option<Py<PyAny>>>> {
    let Some(host) = host else { return Ok(vec![None]) };
    let bound = host.bind(py);
    if bound.is_instance_of::<PyString>() {
        let is_empty = bound.len()? == 0;
        return Ok(vec![if is_empty { None } else { Some(host) }]);
    }
    if bound.is_instance_of::<PyBytes>() {
        // Iterable, but not of names: it is the lookup's to refuse.
        return Ok(vec![Some(host)]);
    }
    match bound.try_iter() {
        Ok(hosts) => hosts.map(|host| host.map(|host| Some(host.unbind()).filter(|host| !host.is_none(py)))).collect(),
        Err(_) => Ok(vec![Some(host)]),
    }
}

fn repr(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.repr()?.to_string())
}

/// What is asked of a listening socket.
struct Options {
    reuse_address: bool,
    reuse_port: bool,
    keep_alive: bool,
}

impl Options {
    /// A bound socket for every address that there is; all or none.
    fn bind_all(&self, event_loop: &Bound<'_, EventLoop>, infos: &Bound<'_, PySet>) -> PyResult<Vec<Py<PyAny>>> {
        let py = infos.py();
        let mut sockets = Vec::new();
        let result = infos.iter().try_for_each(|info| {
            if let Some(socket) = self.bind(event_loop, &info)? {
                sockets.push(socket);
            }
            Ok(())
        });
        let result = result.and_then(|()| {
            if !sockets.is_empty() {
                return Ok(());
            }
            let addresses = infos.iter().map(|info| info.get_item(4)).collect::<PyResult<Vec<_>>>()?;
            let addresses = PyList::new(py, addresses)?.repr()?;
            Err(PyOSError::new_err(format!("could not bind on any address out of {addresses}")))
        });
        match result {
            Ok(()) => Ok(sockets),
            Err(error) => {
                sockets.iter().for_each(|socket| close(socket.bind(py)));
                Err(error)
            }
        }
    }

    /// `None` if the system knows no such family, or has no such address.
    fn bind(&self, event_loop: &Bound<'_, EventLoop>, info: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = info.py();
        let [family, kind, protocol, _, address]: [Bound<'_, PyAny>; 5] = info.extract()?;
        let class = asyncio::socket_module(py)?.getattr(intern!(py, "socket"))?;
        let socket = match class.call1((&family, &kind, &protocol)) {
            Ok(socket) => socket,
            Err(error) if error.is_instance_of::<PyOSError>(py) => {
                let text = format!(
                    "create_server() failed to create socket.socket({}, {}, {})",
                    family.repr()?,
                    kind.repr()?,
                    protocol.repr()?
                );
                return warn(event_loop, &text, Some(&error)).map(|()| None);
            }
            Err(error) => return Err(error),
        };
        let bound = self
            .set(&socket, family.extract()?)
            .and_then(|()| socket.call_method1(intern!(py, "bind"), (&address,)).map(drop));
        match bound {
            Ok(()) => Ok(Some(socket.unbind())),
            Err(error) => {
                close(&socket);
                self.explain(event_loop, &address, error).map(|()| None)
            }
        }
    }

    fn set(&self, socket: &Bound<'_, PyAny>, family: i32) -> PyResult<()> {
        let py = socket.py();
        let is_internet = matches!(family, libc::AF_INET | libc::AF_INET6);
        let options = [
            (self.reuse_address, libc::SOL_SOCKET, libc::SO_REUSEADDR),
            // Linux refuses it for other families since 6.12.9.
            (self.reuse_port && is_internet, libc::SOL_SOCKET, libc::SO_REUSEPORT),
            (self.keep_alive, libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            // One socket an address: the IPv4 side of this port is another's.
            (family == libc::AF_INET6, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        ];
        for (_, level, option) in options.into_iter().filter(|(wanted, ..)| *wanted) {
            socket.call_method1(intern!(py, "setsockopt"), (level, option, true))?;
        }
        Ok(())
    }

    /// What a failed `bind` is worth: an error that names the address, or a word in the log.
    fn explain(&self, event_loop: &Bound<'_, EventLoop>, address: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let py = address.py();
        if !error.is_instance_of::<PyOSError>(py) {
            return Err(error);
        }
        let value = error.value(py);
        let text = value.str()?.to_string().to_lowercase();
        let text = format!("error while attempting to bind on address {}: {text}", address.repr()?);
        let number = value.getattr(intern!(py, "errno"))?;
        if number.eq(libc::EADDRNOTAVAIL)? {
            // The family is there, but switched off.
            return warn(event_loop, &text, None);
        }
        Err(PyErr::from_value(py.get_type::<PyOSError>().call1((number, text))?))
    }
}

fn close(socket: &Bound<'_, PyAny>) {
    // The error that led here is the one to tell.
    _ = socket.call_method0(intern!(socket.py(), "close"));
}

fn warn(event_loop: &Bound<'_, EventLoop>, text: &str, error: Option<&PyErr>) -> PyResult<()> {
    let py = event_loop.py();
    if !event_loop.as_super().get().debug.get(py) {
        return Ok(());
    }
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "exc_info"), error.map(|error| error.value(py)))?;
    asyncio::logger(py)?.call_method("warning", (text,), Some(&keywords)).map(drop)
}
