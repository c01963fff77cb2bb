//! `readuntil`, `readline` and `async for`: by what ends a message.

use ferrio::stream::{Search, Separators};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyStopAsyncIteration, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::buffer::Message;
use super::read::Refuse;
use super::{StreamReader, Waiting};
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::buffer::with_bytes;
use crate::ffi::call::{method0, method1};
use crate::ffi::method::CallArguments;

static NEWLINE: Separators = Separators::byte(b'\n');

/// What came of looking for a message.
enum Scan<'py> {
    Message(Bound<'py, PyBytes>),
    /// The end of file, with what there was.
    Incomplete(Bound<'py, PyBytes>),
    /// The message is longer than the limit: at least so many bytes, without what ends it.
    TooLong {
        text: &'static str,
        length: usize,
    },
    /// More is needed.
    Missing,
}

impl StreamReader {
    /// Looks for a message, and takes it out if it is whole.
    #[inline]
    fn scan<'py>(&self, py: Python<'py>, separators: &Separators, search: &mut Search) -> PyResult<Scan<'py>> {
        let limit = self.limit.get(py);
        match self.buffer.take_message(py, separators, search, limit)? {
            Message::Whole(message) => {
                self.taken(py)?;
                Ok(Scan::Message(message))
            }
            Message::TooLong(found) => {
                let text = "Separator is found, but chunk is longer than limit";
                Ok(Scan::TooLong { text, length: found.start })
            }
            Message::Missing if search.searched() > limit => {
                let text = "Separator is not found, and chunk exceed the limit";
                Ok(Scan::TooLong { text, length: search.searched() })
            }
            Message::Missing if self.eof.get(py) => self.buffer.take(py, usize::MAX).map(Scan::Incomplete),
            Message::Missing => Ok(Scan::Missing),
        }
    }
}

struct ReadUntil {
    reader: Py<StreamReader>,
    separators: Separators,
    search: Search,
    waiting: Waiting,
    begun: bool,
}

impl Frame for ReadUntil {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py);
        let reader = this.get();
        if std::mem::replace(&mut self.begun, true) {
            self.waiting.end(py, reader, outcome)?;
        } else {
            reader.check(py)?;
        }
        match reader.scan(py, &self.separators, &mut self.search)? {
            Scan::Message(message) => Ok(Next::Return(message.into_any())),
            Scan::Incomplete(partial) => {
                Err(asyncio::incomplete_read_error::new_err(py, (partial.unbind(), py.None())))
            }
            Scan::TooLong { text, length } => Err(asyncio::limit_overrun_error::new_err(py, (text, length))),
            Scan::Missing => self.waiting.begin(this, "readuntil"),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        self.waiting.traverse(visit)
    }
}

/// The argument of `readuntil`: one separator, or a tuple of them.
fn separators_of(separator: Option<&Bound<'_, PyAny>>) -> PyResult<Separators> {
    let Some(separator) = separator else { return Ok(Separators::byte(b'\n')) };
    let separators = match separator.cast::<PyTuple>() {
        Ok(tuple) => {
            let bytes_of = |separator: Bound<'_, PyAny>| with_bytes(&separator, |bytes| Box::<[u8]>::from(bytes));
            let separators = tuple.iter().map(bytes_of).collect::<PyResult<Vec<_>>>()?;
            if separators.is_empty() {
                return Err(PyValueError::new_err("Separator should contain at least one element"));
            }
            Separators::any(separators)
        }
        Err(_) => with_bytes(separator, Separators::one)?,
    };
    separators.ok_or_else(|| PyValueError::new_err("Separator should be at least one-byte string"))
}

/// `StreamReader.readuntil`.
pub(super) struct StreamReaderReadUntil;

impl AsyncFunction for StreamReaderReadUntil {
    const NAME: &'static str = "StreamReader.readuntil";

    const PARAMETERS: &'static str = "(self, separator=b'\\n')";

    const DOC: &'static str = "Returns the bytes up to and with `separator`.\n\n\
        `separator` is a bytes-like object, or a tuple of them (asyncio 3.13): the one that ends first counts. Raises\n\
        LimitOverrunError if there are more bytes before it than the limit, which stay to be read; IncompleteReadError,\n\
        with what there is, at the end of file; ValueError for an empty separator or tuple; the exception that was set;\n\
        RuntimeError if another coroutine waits already.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [reader, separator] = arguments.bind(Self::NAME, ["self", "separator"], 1, 2)?;
        let reader = super::this(reader)?.unbind();
        let separators = match separators_of(separator.as_deref()) {
            Ok(separators) => separators,
            Err(error) => return Coroutine::of(py, Self::NAME, Refuse(Some(error))),
        };
        let frame =
            ReadUntil { reader, separators, search: Search::default(), waiting: Waiting::default(), begun: false };
        Coroutine::of(py, Self::NAME, frame)
    }
}

/// `readline`, by itself or as a part of another frame.
struct ReadLine {
    reader: Py<StreamReader>,
    search: Search,
    waiting: Waiting,
    begun: bool,
}

impl ReadLine {
    fn new(reader: Py<StreamReader>) -> Self {
        Self { reader, search: Search::default(), waiting: Waiting::default(), begun: false }
    }

    /// There is no line, or it is too long, or Python code has seen to where it is.
    #[inline(never)]
    fn step_without_line<'py>(&mut self, py: Python<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py);
        let reader = this.get();
        match reader.scan(py, &NEWLINE, &mut self.search)? {
            Scan::Message(line) | Scan::Incomplete(line) => Ok(Next::Return(line.into_any())),
            Scan::TooLong { text, length } => {
                Err(too_long(reader, py, length, text.into_pyobject(py)?.into_any().unbind())?)
            }
            // It is readuntil() that waits in asyncio, and says so.
            Scan::Missing => self.waiting.begin(this, "readuntil"),
        }
    }

    /// A reader with a `readuntil` of its own reads the line by that.
    #[cold]
    fn step_by_method<'py>(&mut self, this: &Bound<'py, StreamReader>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let py = this.py();
        if !std::mem::replace(&mut self.begun, true) {
            let newline = PyBytes::new(py, b"\n");
            return method1(this.as_any(), intern!(py, "readuntil"), newline.as_any()).map(Next::Await);
        }
        let error = match outcome {
            Ok(line) => return Ok(Next::Return(line)),
            Err(error) => error,
        };
        let value = error.value(py).as_any();
        if asyncio::incomplete_read_error::is(value) {
            return value.getattr(intern!(py, "partial")).map(Next::Return);
        }
        if !asyncio::limit_overrun_error::is(value) {
            return Err(error);
        }
        let length = value.getattr(intern!(py, "consumed"))?.extract()?;
        let text = value.getattr(intern!(py, "args"))?.get_item(0)?;
        Err(too_long(this.get(), py, length, text.unbind())?)
    }
}

/// Drops a line that is longer than the limit: as much of it as there is. What `readline` raises then.
#[cold]
fn too_long(reader: &StreamReader, py: Python<'_>, length: usize, text: Py<PyAny>) -> PyResult<PyErr> {
    let has_end = reader.buffer.has_at(py, length, b'\n')?;
    reader.buffer.skip(py, if has_end { length + 1 } else { usize::MAX })?;
    reader.taken(py)?;
    Ok(PyValueError::new_err(text))
}

impl Frame for ReadLine {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py);
        let reader = this.get();
        if !reader.is_plain(py) {
            let this = this.clone();
            return self.step_by_method(&this, outcome);
        }
        if std::mem::replace(&mut self.begun, true) {
            self.waiting.end(py, reader, outcome)?;
        } else {
            reader.check(py)?;
        }
        if let Some(line) = reader.buffer.take_line(py, &mut self.search, reader.limit.get(py))? {
            reader.taken(py)?;
            return Ok(Next::Return(line.into_any()));
        }
        self.step_without_line(py)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        self.waiting.traverse(visit)
    }
}

/// `StreamReader.readline`.
pub(super) struct StreamReaderReadLine;

impl AsyncFunction for StreamReaderReadLine {
    const NAME: &'static str = "StreamReader.readline";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Returns the next line, with its newline; what there is, if the end of file comes first.\n\n\
        Raises ValueError if the line is longer than the limit, and drops it then as far as it is there; the exception\n\
        that was set; RuntimeError if another coroutine waits already.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (reader, _) = arguments.method::<StreamReader, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, ReadLine::new(reader.to_owned().unbind()))
    }
}

/// The next line of an `async for`.
enum NextLine {
    Native(ReadLine),
    /// A reader with a `readline` of its own, until that is called.
    ByMethod(Option<Py<StreamReader>>),
}

impl Frame for NextLine {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let line = match self {
            Self::Native(frame) => match frame.step(py, outcome)? {
                Next::Return(line) => line,
                waits => return Ok(waits),
            },
            Self::ByMethod(reader) => match reader.take() {
                Some(reader) => {
                    return method0(reader.bind(py).as_any(), intern!(py, "readline")).map(Next::Await);
                }
                None => outcome?,
            },
        };
        if line.eq(PyBytes::new(py, &[]))? {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        Ok(Next::Return(line))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Native(frame) => frame.traverse(visit),
            Self::ByMethod(reader) => visit.call(reader),
        }
    }
}

/// `StreamReader.__anext__`.
pub(super) struct StreamReaderNext;

impl AsyncFunction for StreamReaderNext {
    const NAME: &'static str = "StreamReader.__anext__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Returns the next line. Raises StopAsyncIteration at the end of file.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (reader, _) = arguments.method::<StreamReader, 1>(Self::NAME, ["self"])?;
        let is_plain = reader.get().is_plain(py);
        let reader = reader.to_owned().unbind();
        let frame = if is_plain { NextLine::Native(ReadLine::new(reader)) } else { NextLine::ByMethod(Some(reader)) };
        Coroutine::of(py, Self::NAME, frame)
    }
}
