//! Connections and servers over Unix sockets.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::{fs, io};

use ferrio::net::{Address, socket};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString};

use super::EventLoop;
use super::connect::{OpenSocket, establish};
use super::serve::serve;
use super::tls::{Side, TlsArguments};
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::convert::Truth;
use crate::coroutine::Coroutine;
use crate::ffi::descriptor::borrow;
use crate::os_error::os_error;
use crate::transports::SocketFile;

#[pymethods]
impl EventLoop {
    /// Connects to the Unix socket `path`, a str, bytes or path object, where a leading zero byte makes an abstract
    /// name; or takes the connected socket `sock`. Returns the transport and the protocol that `protocol_factory()`
    /// made.
    ///
    /// Raises ValueError for arguments that contradict each other, OSError if there is nobody to connect to,
    /// ssl.SSLError if the TLS handshake fails.
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    #[pyo3(signature = (protocol_factory, path=None, *, ssl=None, sock=None, server_hostname=None,
        ssl_handshake_timeout=None, ssl_shutdown_timeout=None))]
    fn create_unix_connection<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        path: Option<Py<PyAny>>,
        ssl: Option<Py<PyAny>>,
        sock: Option<Py<PyAny>>,
        server_hostname: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "_UnixSelectorEventLoop.create_unix_connection", async move {
            check_hostname(&ssl, &server_hostname)?;
            let tls = TlsArguments { ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout };
            tls.check(true)?;
            let socket = match (path, sock) {
                (Some(_), Some(_)) => return Err(path_and_sock()),
                (Some(path), None) => connect(&event_loop, path).await?,
                (None, Some(sock)) => {
                    check_unix_socket(&sock)?;
                    OpenSocket::new(sock)
                }
                (None, None) => return Err(PyValueError::new_err("no path and sock were specified")),
            };
            establish(&event_loop, socket, protocol_factory, tls, Side::Client).await
        })
    }

    /// A server that listens on the Unix socket `path`, or on the bound socket `sock`. Each connection gets a protocol
    /// that `protocol_factory()` made. A socket file that is in the way is removed.
    ///
    /// With `cleanup_socket` (asyncio has it since 3.13) the server removes its socket file when it closes, if that is
    /// still the one that it began with. Raises ValueError for arguments that contradict each other, OSError if the
    /// path cannot be bound to.
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    #[pyo3(
        signature = (protocol_factory, path=None, *, sock=None, backlog=100, ssl=None, ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None, start_serving=Truth(true), cleanup_socket=Truth(true)),
        text_signature = "($self, protocol_factory, path=None, *, sock=None, backlog=100, ssl=None, \
            ssl_handshake_timeout=None, ssl_shutdown_timeout=None, start_serving=True, cleanup_socket=True)"
    )]
    fn create_unix_server<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        path: Option<Py<PyAny>>,
        sock: Option<Py<PyAny>>,
        backlog: i32,
        ssl: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
        start_serving: Truth,
        cleanup_socket: Truth,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "_UnixSelectorEventLoop.create_unix_server", async move {
            if Python::attach(|py| ssl.as_ref().is_some_and(|ssl| ssl.bind(py).is_instance_of::<PyBool>())) {
                return Err(PyTypeError::new_err("ssl argument must be an SSLContext or None"));
            }
            let tls = TlsArguments { ssl, server_hostname: None, ssl_handshake_timeout, ssl_shutdown_timeout };
            tls.check(true)?;
            let sock = match (path, sock) {
                (Some(_), Some(_)) => return Err(path_and_sock()),
                (Some(path), None) => Python::attach(|py| bind(path.bind(py)))?,
                (None, Some(sock)) => {
                    check_unix_socket(&sock)?;
                    OpenSocket::new(sock)
                }
                (None, None) => return Err(PyValueError::new_err("path was not specified, and no sock specified")),
            };
            let file = if cleanup_socket.0 { Python::attach(|py| socket_file(sock.get(py)?))? } else { None };
            let sockets = sock.take().map(|sock| (sock, file));
            serve(&event_loop, sockets.into_iter().collect(), protocol_factory, tls, backlog, start_serving.0).await
        })
    }
}

/// # Errors
///
/// `ValueError` for TLS without a name to ask for: a path is none.
fn check_hostname(ssl: &Option<Py<PyAny>>, server_hostname: &Option<Py<PyAny>>) -> PyResult<()> {
    let ssl = ssl.as_ref().map_or(Ok(false), |ssl| Python::attach(|py| ssl.is_truthy(py)))?;
    if ssl && server_hostname.is_none() {
        return Err(PyValueError::new_err("you have to pass server_hostname when using ssl"));
    }
    Ok(())
}

fn path_and_sock() -> PyErr {
    PyValueError::new_err("path and sock can not be specified at the same time")
}

/// # Errors
///
/// `ValueError` unless it is a stream socket of this family.
fn check_unix_socket(sock: &Py<PyAny>) -> PyResult<()> {
    Python::attach(|py| {
        let sock = sock.bind(py);
        let is_unix = sock.getattr(intern!(py, "family"))?.eq(libc::AF_UNIX)?;
        if is_unix && sock.getattr(intern!(py, "type"))?.eq(libc::SOCK_STREAM)? {
            return Ok(());
        }
        Err(PyValueError::new_err(format!("A UNIX Domain Stream Socket was expected, got {}", sock.repr()?)))
    })
}

async fn connect(event_loop: &WeakLoop, path: Py<PyAny>) -> PyResult<OpenSocket> {
    let (socket, path) = Python::attach(|py| {
        let path = fspath(path.bind(py))?.unbind();
        let socket = OpenSocket::new(unix_socket(py, libc::SOCK_STREAM)?.unbind());
        socket.get(py)?.call_method1(intern!(py, "setblocking"), (false,))?;
        PyResult::Ok((socket, path))
    })?;
    socket.connect(event_loop, path).await?;
    Ok(socket)
}

fn fspath<'py>(path: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    asyncio::module(path.py(), "os")?.call_method1(intern!(path.py(), "fspath"), (path,))
}

/// Its class is looked up for every call: programs replace it.
fn unix_socket(py: Python<'_>, kind: i32) -> PyResult<Bound<'_, PyAny>> {
    let module = asyncio::module_used_by("asyncio.unix_events", intern!(py, "socket"))?;
    module.getattr(intern!(py, "socket"))?.call1((libc::AF_UNIX, kind))
}

fn bind(path: &Bound<'_, PyAny>) -> PyResult<OpenSocket> {
    let py = path.py();
    let path = fspath(path)?;
    let socket = OpenSocket::new(unix_socket(py, libc::SOCK_STREAM)?.unbind());
    remove_stale(&path)?;
    match socket.get(py)?.call_method1(intern!(py, "bind"), (&path,)) {
        Ok(_) => Ok(socket),
        Err(error) if error.is_instance_of::<PyOSError>(py) => {
            if !error.value(py).getattr(intern!(py, "errno"))?.eq(libc::EADDRINUSE)? {
                return Err(error);
            }
            let text = format!("Address {} is already in use", path.repr()?);
            // By a call: it is the class that picks the subclass for the number.
            Err(PyErr::from_value(py.get_type::<PyOSError>().call1((libc::EADDRINUSE, text))?))
        }
        Err(error) => Err(error),
    }
}

/// Removes a socket file that a process has left behind. That it cannot be done is only logged: to make sockets may be
/// all that the directory allows.
pub(super) fn remove_stale(path: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = path.py();
    let first = path.get_item(0)?;
    let is_abstract = match first.cast::<PyString>() {
        Ok(first) => first == "\0",
        Err(_) => first.eq(0)?,
    };
    if is_abstract {
        return Ok(());
    }
    let removed = match file_name(path) {
        Some(name) => remove_socket(Path::new(&name)),
        None => return Ok(()),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let text = "Unable to check or remove stale UNIX socket %r: %r";
            let error = os_error(py, &error);
            asyncio::logger(py)?.call_method1("error", (text, path, error.value(py))).map(drop)
        }
        _ => Ok(()),
    }
}

/// The path as the system takes it. What is none will be refused where the socket is bound.
fn file_name(path: &Bound<'_, PyAny>) -> Option<OsString> {
    match path.cast::<PyBytes>() {
        Ok(bytes) => Some(OsStr::from_bytes(bytes.as_bytes()).to_owned()),
        Err(_) => path.extract().ok(),
    }
}

fn remove_socket(path: &Path) -> io::Result<()> {
    if path.metadata()?.file_type().is_socket() { fs::remove_file(path) } else { Ok(()) }
}

/// The file that a bound socket has made; `None` if it has none.
fn socket_file(sock: &Bound<'_, PyAny>) -> PyResult<Option<SocketFile>> {
    let fd: RawFd = sock.call_method0(intern!(sock.py(), "fileno"))?.extract()?;
    if fd < 0 {
        return Ok(None);
    }
    Ok(match socket::local_address(borrow(fd)) {
        Ok(Address::Unix(path)) if !matches!(path.first(), None | Some(0)) => SocketFile::at(path),
        _ => None,
    })
}
