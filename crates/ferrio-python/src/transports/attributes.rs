//! What programs read of asyncio's transports although it is private: the socket, to set an option that is not offered,
//! the protocol, what `get_extra_info` answers from.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{DatagramTransport, ReadPipeTransport, SocketTransport, SubprocessTransport, WritePipeTransport};
use crate::classes::{Read, readable};

/// Gives the classes the attributes.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let of_socket: [(&str, Read); 5] = [
        ("_sock", socket),
        ("_sock_fd", socket_number),
        ("_protocol", protocol),
        ("_closing", closing),
        ("_extra", extra),
    ];
    readable::<SocketTransport>(py, &of_socket)?;
    readable::<DatagramTransport>(py, &of_socket)?;
    let of_pipe: [(&str, Read); 5] =
        [("_pipe", pipe), ("_fileno", pipe_number), ("_protocol", protocol), ("_closing", closing), ("_extra", extra)];
    readable::<ReadPipeTransport>(py, &of_pipe)?;
    readable::<WritePipeTransport>(py, &of_pipe)?;
    readable::<SubprocessTransport>(
        py,
        &[
            ("_pid", |process| process.call_method0(intern!(process.py(), "get_pid"))),
            ("_returncode", |process| process.call_method0(intern!(process.py(), "get_returncode"))),
            ("_protocol", protocol),
            ("_closed", closing),
            ("_extra", extra),
        ],
    )
}

fn info<'py>(transport: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    transport.call_method1(intern!(transport.py(), "get_extra_info"), (name,))
}

fn protocol<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    transport.call_method0(intern!(transport.py(), "get_protocol"))
}

fn closing<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    transport.call_method0(intern!(transport.py(), "is_closing"))
}

/// The `socket.socket` itself, closed once the connection is lost.
fn socket<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let shown = info(transport, intern!(transport.py(), "socket"))?;
    if shown.is_none() { Ok(shown) } else { shown.getattr(intern!(transport.py(), "_sock")) }
}

fn socket_number<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = transport.py();
    let socket = socket(transport)?;
    if socket.is_none() {
        Ok((-1_i32).into_pyobject(py)?.into_any())
    } else {
        socket.call_method0(intern!(py, "fileno"))
    }
}

fn pipe<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    info(transport, intern!(transport.py(), "pipe"))
}

fn pipe_number<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    pipe(transport)?.call_method0(intern!(transport.py(), "fileno"))
}

/// What `get_extra_info` has an answer to, as it is at this moment.
fn extra<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = transport.py();
    let known = PyDict::new(py);
    for name in ["socket", "sockname", "peername", "pipe", "subprocess"] {
        let name = PyString::new(py, name);
        let value = info(transport, &name)?;
        if !value.is_none() {
            known.set_item(name, value)?;
        }
    }
    Ok(known.into_any())
}
