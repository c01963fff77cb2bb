//! Names and addresses.
//!
//! `getaddrinfo` and `getnameinfo` of the standard library do the work, in a thread of the default executor, as with
//! asyncio. What can be answered without asking anybody, because it is numbers on both sides, is answered at once: the
//! same functions are called on the loop's thread, told to look at numbers only. A program that has put its own
//! function in the place of the standard library's gets every call, in the thread, with the arguments as they came.

use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PySlice, PyString, PyTuple};

use super::EventLoop;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};

#[pymethods]
impl EventLoop {
    /// What `socket.getaddrinfo` returns, and raises (socket.gaierror), without blocking the loop.
    #[pyo3(
        signature = (host, port, *, family=None, r#type=None, proto=None, flags=None),
        text_signature = "($self, host, port, *, family=0, type=0, proto=0, flags=0)"
    )]
    fn getaddrinfo<'py>(
        slf: &Bound<'py, Self>,
        host: Bound<'py, PyAny>,
        port: Bound<'py, PyAny>,
        family: Option<Bound<'py, PyAny>>,
        r#type: Option<Bound<'py, PyAny>>,
        proto: Option<Bound<'py, PyAny>>,
        flags: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let py = slf.py();
        let zero = 0i32.into_pyobject(py)?.into_any();
        let rest = [family, r#type, proto, flags].map(|argument| argument.unwrap_or_else(|| zero.clone()));
        let query = tuple_of(py, [host, port].into_iter().chain(rest))?.unbind();
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(py, "BaseEventLoop.getaddrinfo", async move {
            let answer = Python::attach(|py| {
                let (event_loop, query) = (event_loop.get(py)?, query.bind(py));
                match address_at_once(&event_loop, query)? {
                    Some(answer) => Ok(Answer::Given(answer.unbind())),
                    None => ask_for_address(&event_loop, query).map(|future| Answer::Awaited(future.unbind())),
                }
            });
            answer?.get().await
        })
    }

    /// What `socket.getnameinfo` returns, and raises (socket.gaierror), without blocking the loop.
    #[pyo3(signature = (sockaddr, flags=None), text_signature = "($self, sockaddr, flags=0)")]
    fn getnameinfo<'py>(
        slf: &Bound<'py, Self>,
        sockaddr: Bound<'py, PyAny>,
        flags: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let py = slf.py();
        let flags = flags.map_or_else(|| 0i32.into_pyobject(py).map(Bound::into_any), Ok)?;
        let query = PyTuple::new(py, [sockaddr, flags])?.unbind();
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(py, "BaseEventLoop.getnameinfo", async move {
            let answer = Python::attach(|py| {
                let (event_loop, query) = (event_loop.get(py)?, query.bind(py));
                let function = asyncio::socket_module(py)?.getattr(intern!(py, "getnameinfo"))?;
                if wants_numbers(query)?
                    && function.is(asyncio::module(py, "_socket")?.getattr(intern!(py, "getnameinfo"))?)
                {
                    return function.call1(query).map(|answer| Answer::Given(answer.unbind()));
                }
                in_executor(&event_loop, function, query).map(|future| Answer::Awaited(future.unbind()))
            });
            answer?.get().await
        })
    }

    /// `socket.getaddrinfo`, with a word in the log about how long it took.
    fn _getaddrinfo_debug<'py>(
        slf: &Bound<'py, Self>,
        host: Bound<'py, PyAny>,
        port: Bound<'py, PyAny>,
        family: Bound<'py, PyAny>,
        r#type: Bound<'py, PyAny>,
        proto: Bound<'py, PyAny>,
        flags: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let query = PyTuple::new(slf.py(), [host, port, family, r#type, proto, flags])?;
        logged(slf, &query, || getaddrinfo(slf.py())?.call1(&query))
    }
}

fn tuple_of<'py>(py: Python<'py>, objects: impl Iterator<Item = Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, objects.collect::<Vec<_>>())
}

/// An answer, or the future of it.
enum Answer {
    Given(Py<PyAny>),
    Awaited(Py<PyAny>),
}

impl Answer {
    async fn get(self) -> PyResult<Py<PyAny>> {
        match self {
            Self::Given(answer) => Ok(answer),
            Self::Awaited(future) => await_(future).await,
        }
    }
}

fn getaddrinfo(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    asyncio::socket_module(py)?.getattr(intern!(py, "getaddrinfo"))
}

/// The answer to a query in which all is numbers; `None` also if the query is wrong, so that the error is that of the
/// query as it came.
fn address_at_once<'py>(
    event_loop: &Bound<'py, EventLoop>,
    query: &Bound<'py, PyTuple>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = query.py();
    let (host, port, flags) = (query.get_item(0)?, query.get_item(1)?, query.get_item(5)?);
    if !may_be_numeric_host(&host) || !is_numeric_port(&port) {
        return Ok(None);
    }
    let function = getaddrinfo(py)?;
    let socket = asyncio::socket_module(py)?;
    let is_original = function
        .getattr(intern!(py, "__globals__"))
        .is_ok_and(|globals| socket.getattr(intern!(py, "__dict__")).is_ok_and(|own| globals.is(&own)));
    if !is_original {
        return Ok(None);
    }
    let Ok(flags) = flags.bitor(libc::AI_NUMERICHOST) else { return Ok(None) };
    let arguments = tuple_of(py, query.iter().take(5).chain([flags]))?;
    let answer = if event_loop.as_super().get().debug.get(py) {
        logged(event_loop, query, || function.call1(arguments))
    } else {
        function.call1(arguments)
    };
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if asyncio::leaves_the_loop(py, &error) => Err(error),
        Err(_) => Ok(None),
    }
}

fn ask_for_address<'py>(
    event_loop: &Bound<'py, EventLoop>,
    query: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = query.py();
    let function = if event_loop.as_super().get().debug.get(py) {
        event_loop.getattr(intern!(py, "_getaddrinfo_debug"))?
    } else {
        getaddrinfo(py)?
    };
    in_executor(event_loop, function, query)
}

fn in_executor<'py>(
    event_loop: &Bound<'py, EventLoop>,
    function: Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = arguments.py();
    let default = py.None().into_bound(py);
    let arguments = tuple_of(py, [default, function].into_iter().chain(arguments.iter()))?;
    event_loop.call_method1(intern!(py, "run_in_executor"), arguments)
}

/// Whether `host` is none, or looks like numbers: IPv4 addresses in all their forms begin with a digit, and only IPv6
/// addresses have a colon. That it is one is for `getaddrinfo` to say.
fn may_be_numeric_host(host: &Bound<'_, PyAny>) -> bool {
    let looks_numeric =
        |host: &[u8]| host.first().is_some_and(u8::is_ascii_digit) || memchr::memchr(b':', host).is_some();
    host.is_none() || with_text(host, looks_numeric).unwrap_or(false)
}

/// Whether `port` is none or a number, rather than the name of a service, which would have to be looked up.
fn is_numeric_port(port: &Bound<'_, PyAny>) -> bool {
    port.is_none()
        || port.is_instance_of::<PyInt>()
        || with_text(port, |port| port.iter().all(u8::is_ascii_digit)).unwrap_or(false)
}

fn with_text<R>(object: &Bound<'_, PyAny>, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
    if let Ok(text) = object.cast::<PyString>() {
        text.to_str().ok().map(|text| f(text.as_bytes()))
    } else {
        object.cast::<PyBytes>().ok().map(|bytes| f(bytes.as_bytes()))
    }
}

/// Whether host and service are asked for as numbers.
fn wants_numbers(query: &Bound<'_, PyTuple>) -> PyResult<bool> {
    const NUMBERS: i32 = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
    Ok(query.get_item(1)?.extract::<i32>().is_ok_and(|flags| flags & NUMBERS == NUMBERS))
}

/// Logs an answer and what it took, louder if that was too long.
fn logged<'py>(
    event_loop: &Bound<'py, EventLoop>,
    query: &Bound<'py, PyTuple>,
    ask: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = query.py();
    let mut text = format!("{}:{}", query.get_item(0)?.str()?, query.get_item(1)?.repr()?);
    for (name, value) in ["family", "type", "proto", "flags"].into_iter().zip(query.iter().skip(2)) {
        if value.is_truthy()? {
            text.push_str(&format!(", {name}={}", value.repr()?));
        }
    }
    let logger = asyncio::logger(py)?;
    logger.call_method1("debug", ("Get address info %s", &text))?;
    let start = Instant::now();
    let answer = ask()?;
    let seconds = start.elapsed().as_secs_f64();
    let is_slow = seconds >= event_loop.as_super().get().slow_callback_duration.get(py);
    let text = format!("Getting address info {text} took {:.3}ms: {}", seconds * 1e3, answer.repr()?);
    logger.call_method1(if is_slow { "info" } else { "debug" }, (text,))?;
    Ok(answer)
}

/// The address to connect `sock` to: `address` with numbers in it, if it is an internet socket's.
pub(super) async fn ensure_resolved(
    event_loop: &WeakLoop,
    sock: &Py<PyAny>,
    address: Py<PyAny>,
) -> PyResult<Py<PyAny>> {
    let answer = Python::attach(|py| {
        let (sock, address) = (sock.bind(py), address.bind(py));
        let family = sock.getattr(intern!(py, "family"))?;
        if !family.eq(libc::AF_INET)? && !family.eq(libc::AF_INET6)? {
            return Ok(Answer::Given(address.clone().unbind()));
        }
        let (kind, protocol) = (sock.getattr(intern!(py, "type"))?, sock.getattr(intern!(py, "proto"))?);
        // Any sequence, as for asyncio.
        let pair = address.get_item(PySlice::new(py, 0, 2, 1))?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let [host, port] = <[Bound<'_, PyAny>; 2]>::try_from(pair).map_err(|pair| {
            PyValueError::new_err(format!("not enough values to unpack (expected 2, got {})", pair.len()))
        })?;
        let rest = address.get_item(PySlice::new(py, 2, isize::MAX, 1))?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let known = [&host, &port, &family, &kind, &protocol].map(Clone::clone);
        let info = asyncio::ipaddr_info(py)?.call1(tuple_of(py, known.into_iter().chain(rest))?)?;
        if !info.is_none() {
            return Ok(Answer::Given(info.get_item(4)?.unbind()));
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "family"), family)?;
        keywords.set_item(intern!(py, "type"), kind)?;
        keywords.set_item(intern!(py, "proto"), protocol)?;
        keywords.set_item(intern!(py, "flags"), 0)?;
        let found = event_loop.get(py)?.call_method(intern!(py, "getaddrinfo"), (host, port), Some(&keywords))?;
        PyResult::Ok(Answer::Awaited(found.unbind()))
    })?;
    match answer {
        Answer::Given(address) => Ok(address),
        Answer::Awaited(found) => {
            let found = await_(found).await?;
            Python::attach(|py| Ok(found.bind(py).get_item(0)?.get_item(4)?.unbind()))
        }
    }
}

/// Which addresses a socket is to have, a stream socket unless it is said.
pub(super) struct Lookup {
    host: Py<PyAny>,
    port: Py<PyAny>,
    kind: i32,
    family: Py<PyAny>,
    proto: Py<PyAny>,
    flags: Py<PyAny>,
}

impl Lookup {
    /// What is left out is 0, as for `getaddrinfo`.
    pub(super) fn new(
        py: Python<'_>,
        host: Option<Py<PyAny>>,
        port: Option<Py<PyAny>>,
        family: &Option<Py<PyAny>>,
        proto: &Option<Py<PyAny>>,
        flags: &Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let zero = 0i32.into_pyobject(py)?.into_any().unbind();
        let or_zero = |value: &Option<Py<PyAny>>| value.as_ref().unwrap_or(&zero).clone_ref(py);
        let or_none = |value: Option<Py<PyAny>>| value.unwrap_or_else(|| py.None());
        let (host, port) = (or_none(host), or_none(port));
        let kind = libc::SOCK_STREAM;
        Ok(Self { host, port, kind, family: or_zero(family), proto: or_zero(proto), flags: or_zero(flags) })
    }

    pub(super) fn for_datagrams(self) -> Self {
        Self { kind: libc::SOCK_DGRAM, ..self }
    }
}

/// What `getaddrinfo` returns; nobody is asked if `host` is an address already.
pub(super) async fn lookup(event_loop: &WeakLoop, lookup: Lookup) -> PyResult<Py<PyAny>> {
    let answer = Python::attach(|py| {
        let Lookup { host, port, kind, family, proto, flags } = &lookup;
        let info = asyncio::ipaddr_info(py)?.call1((host, port, family, kind, proto))?;
        if !info.is_none() {
            return Ok(Answer::Given(PyList::new(py, [info])?.into_any().unbind()));
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "family"), family)?;
        keywords.set_item(intern!(py, "type"), kind)?;
        keywords.set_item(intern!(py, "proto"), proto)?;
        keywords.set_item(intern!(py, "flags"), flags)?;
        let found = event_loop.get(py)?.call_method(intern!(py, "getaddrinfo"), (host, port), Some(&keywords))?;
        PyResult::Ok(Answer::Awaited(found.unbind()))
    });
    answer?.get().await
}
