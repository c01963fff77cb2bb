//! The errors of the direct way, as the methods of `ssl.SSLObject` raise them.

use std::ffi::c_int;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::asyncio;
use crate::ffi::openssl::Session;

/// The method of an `ssl.SSLObject` in whose place something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    DoHandshake,
    Read,
    Write,
    Unwrap,
}

/// The error that is in the library's queue: with the library's name, the reason and the text.
#[cold]
pub(super) fn raised(object: &Bound<'_, PyAny>, session: &mut Session, method: Method) -> PyErr {
    let py = object.py();
    let read = || Method::Read.call(object);
    match session.failing(read) {
        Err(error) => {
            if method != Method::Read && asyncio::is_ssl_error(py, &error) {
                // Without it the text names another line of the interpreter's source.
                _ = set_place(&error.value(py).clone(), method);
            }
            error
        }
        // There is nothing in it: the connection has failed before, and that error was raised.
        Ok(_) => {
            const EOF: c_int = 8;
            made(asyncio::ssl_eof_error(py), EOF, "EOF occurred in violation of protocol", method)
        }
    }
}

/// The error of a peer that closes where something else was to come.
#[cold]
pub(super) fn closed(py: Python<'_>, method: Method) -> PyErr {
    const ZERO_RETURN: c_int = 6;
    made(asyncio::ssl_zero_return_error(py), ZERO_RETURN, "TLS/SSL connection has been closed (EOF)", method)
}

/// An error that is not of the library's queue.
fn made(class: PyResult<&Bound<'_, PyAny>>, number: c_int, text: &str, method: Method) -> PyErr {
    let error = class.and_then(|class| {
        let py = class.py();
        let error = class.call1((number, format!("{text}{PLACE}0)")))?;
        error.setattr(intern!(py, "library"), py.None())?;
        error.setattr(intern!(py, "reason"), py.None())?;
        set_place(&error, method)?;
        Ok(error)
    });
    error.map_or_else(|error| error, PyErr::from_value)
}

/// What is before the line's number in an error's text, at its end.
const PLACE: &str = " (_ssl.c:";

/// Has the text of an error name the line of the interpreter's source that it would name, had the method been called:
/// what programs log should not depend on how it was done.
fn set_place(error: &Bound<'_, PyAny>, method: Method) -> PyResult<()> {
    let py = error.py();
    let place = place(py, method)?;
    let text = error.getattr(intern!(py, "strerror"))?.cast::<PyString>()?.to_str()?.to_owned();
    let Some(end) = text.rfind(PLACE) else { return Ok(()) };
    let text = format!("{}{place}", &text[..end]);
    let number = error.getattr(intern!(py, "errno"))?;
    error.setattr(intern!(py, "args"), (number, &text))?;
    error.setattr(intern!(py, "strerror"), text)
}

/// Where the method fails, from a connection on which nothing can succeed.
fn place(py: Python<'_>, method: Method) -> PyResult<String> {
    let protocol = asyncio::module(py, "ssl")?.getattr(intern!(py, "PROTOCOL_TLS_SERVER"))?;
    let context = asyncio::ssl_context_class(py)?.call1((protocol,))?;
    let bio = asyncio::memory_bio_class(py)?;
    let object = context.call_method1(intern!(py, "wrap_bio"), (bio.call0()?, bio.call0()?, true))?;
    match method.call(&object) {
        Ok(_) => Ok(String::new()),
        Err(error) => {
            let text = error.value(py).getattr(intern!(py, "strerror"))?;
            let text = text.cast::<PyString>()?.to_str()?;
            Ok(text[text.rfind(PLACE).unwrap_or(text.len())..].to_owned())
        }
    }
}

impl Method {
    fn call<'py>(self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        match self {
            Self::DoHandshake => object.call_method0(intern!(py, "do_handshake")),
            Self::Read => object.call_method1(intern!(py, "read"), (1,)),
            Self::Write => object.call_method1(intern!(py, "write"), (b"-",)),
            Self::Unwrap => object.call_method0(intern!(py, "unwrap")),
        }
    }
}
