//! `read` and `readexactly`: by number of bytes.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::{FETCHED, StreamReader, Waiting};
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::bytes::Growing;
use crate::ffi::call::method1;
use crate::ffi::method::CallArguments;

/// A frame that raises what was found wrong with the arguments: not before the coroutine is driven, as with a function
/// of Python's.
pub(super) struct Refuse(pub(super) Option<PyErr>);

impl Frame for Refuse {
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match self.0.take() {
            Some(error) => Err(error),
            None => Ok(Next::Return(py.None().into_bound(py))),
        }
    }

    fn traverse(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}

/// A number of bytes. What is out of range is as good as the range's end.
#[inline]
fn count_of(count: &Bound<'_, PyAny>) -> PyResult<i64> {
    match count.extract::<i64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(count.py()) => {
            Ok(if count.lt(0)? { i64::MIN } else { i64::MAX })
        }
        count => count,
    }
}

/// `read(n)` with a number that is not negative.
struct Read {
    reader: Py<StreamReader>,
    count: usize,
    waiting: Waiting,
    /// Whether it has begun.
    begun: bool,
}

impl Frame for Read {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py);
        let reader = this.get();
        let fetches = reader.fetches.replace(py, false);
        if self.begun {
            self.waiting.end(py, reader, outcome)?;
        } else {
            reader.check(py)?;
        }
        let is_first = !std::mem::replace(&mut self.begun, true);
        if fetches
            && !is_first
            && !reader.eof.get(py)
            && reader.buffer.len(py)? == 0
            && let Some(data) = reader.fetch(py, self.count)?
        {
            return Ok(Next::Return(data.into_any()));
        }
        if self.count == 0 {
            return Ok(Next::Return(PyBytes::new(py, &[]).into_any()));
        }
        // Another coroutine can have been quicker: there is nothing then, and that is no end of file.
        if (is_first || reader.is_plain(py)) && !reader.eof.get(py) && reader.buffer.len(py)? == 0 {
            let waits = self.waiting.begin(this, "read")?;
            if reader.is_plain(py) {
                reader.wanted.set(py, self.count);
            }
            return Ok(waits);
        }
        let data = reader.buffer.take(py, self.count)?;
        reader.taken(py)?;
        Ok(Next::Return(data.into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        self.waiting.traverse(visit)
    }
}

/// `read()`: until the end of file.
///
/// What was received is taken out of the buffer as it comes, so that the transport need not pause. If reading fails, or
/// is cancelled, it goes back.
struct ReadAll {
    reader: Py<StreamReader>,
    collected: Option<Growing>,
    waiting: Waiting,
    begun: bool,
}

impl ReadAll {
    fn go_on<'py>(&mut self, this: &Bound<'py, StreamReader>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let (py, reader) = (this.py(), this.get());
        if std::mem::replace(&mut self.begun, true) {
            self.waiting.end(py, reader, outcome)?;
        }
        reader.check(py)?;
        if reader.eof.get(py) && self.collected.is_none() {
            let data = reader.buffer.take(py, usize::MAX)?;
            reader.taken(py)?;
            return Ok(Next::Return(data.into_any()));
        }
        let mut collected = match self.collected.take() {
            Some(collected) => collected,
            None => Growing::new(py, reader.buffer.len(py)?)?,
        };
        let drained = reader.buffer.drain_into(py, &mut collected).and_then(|()| reader.taken(py));
        if drained.is_err() || !reader.eof.get(py) {
            self.collected = Some(collected);
            return drained.and_then(|()| self.waiting.begin(this, "read"));
        }
        collected.finish(py).map(|data| Next::Return(data.into_any()))
    }
}

impl Frame for ReadAll {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py).clone();
        let next = self.go_on(&this, outcome);
        if next.is_err()
            && let Some(collected) = self.collected.take()
            && collected.filled() != 0
        {
            this.get().buffer.unread(py, collected.as_slice(py).to_vec())?;
        }
        next
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        self.waiting.traverse(visit)
    }
}

/// `read()` of a reader with other methods than ours: by its `read(limit)`.
struct ReadParts {
    reader: Py<StreamReader>,
    collected: Vec<u8>,
    begun: bool,
}

impl Frame for ReadParts {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py);
        let part = outcome?;
        if !std::mem::replace(&mut self.begun, true) {
            this.get().check(py)?;
        } else if part.is_truthy()? {
            crate::ffi::buffer::with_bytes(&part, |part| self.collected.extend_from_slice(part))?;
        } else {
            return Ok(Next::Return(PyBytes::new(py, &self.collected).into_any()));
        }
        let limit = this.get().limit.get(py).into_pyobject(py)?;
        method1(this.as_any(), intern!(py, "read"), limit.as_any()).map(Next::Await)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)
    }
}

/// `StreamReader.read`.
pub(super) struct StreamReaderRead;

impl AsyncFunction for StreamReaderRead {
    const NAME: &'static str = "StreamReader.read";

    const PARAMETERS: &'static str = "(self, n=-1)";

    const DOC: &'static str = "Returns up to `n` bytes as soon as there are some; all until the end of file if `n` is -1.\n\n\
        Returns b\"\" only at the end of file, or if `n` is 0. The limit does not matter. Raises the exception that was\n\
        set, RuntimeError if another coroutine waits already. What comes before a cancellation stays to be read.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [reader, count] = arguments.bind(Self::NAME, ["self", "n"], 1, 2)?;
        let this = super::this(reader)?;
        let count = match count.map_or(Ok(-1), |count| count_of(&count)) {
            Ok(count) => count,
            Err(error) => return Coroutine::of(py, Self::NAME, Refuse(Some(error))),
        };
        let is_plain = this.get().is_plain(py);
        let reader = this.unbind();
        match usize::try_from(count) {
            Ok(count) => {
                Coroutine::of(py, Self::NAME, Read { reader, count, waiting: Waiting::default(), begun: false })
            }
            Err(_) if is_plain => {
                let frame = ReadAll { reader, collected: None, waiting: Waiting::default(), begun: false };
                Coroutine::of(py, Self::NAME, frame)
            }
            Err(_) => Coroutine::of(py, Self::NAME, ReadParts { reader, collected: Vec::new(), begun: false }),
        }
    }
}

struct ReadExactly {
    reader: Py<StreamReader>,
    count: i64,
    waiting: Waiting,
    begun: bool,
}

impl Frame for ReadExactly {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py);
        let reader = this.get();
        let Ok(count) = usize::try_from(self.count) else {
            return Err(PyValueError::new_err("readexactly size can not be less than zero"));
        };
        let fetches = reader.fetches.replace(py, false);
        if std::mem::replace(&mut self.begun, true) {
            if let Err(error) = self.waiting.end(py, reader, outcome) {
                reader.buffer.expect_nothing(py);
                return Err(error);
            }
            if fetches && !reader.eof.get(py) {
                reader.fetch_expected(py)?;
            }
        } else {
            reader.check(py)?;
        }
        let length = reader.buffer.len(py)?;
        if length < count {
            if !reader.eof.get(py) {
                let waits = self.waiting.begin(this, "readexactly")?;
                if count - length >= FETCHED && reader.is_plain(py) && reader.buffer.expect(py, count) {
                    reader.wanted.set(py, count - length);
                }
                return Ok(waits);
            }
            let partial = reader.buffer.take(py, usize::MAX)?.unbind();
            return Err(asyncio::incomplete_read_error::new_err(py, (partial, self.count)));
        }
        let data = reader.buffer.take(py, count)?;
        if count != 0 {
            reader.taken(py)?;
        }
        Ok(Next::Return(data.into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        self.waiting.traverse(visit)
    }
}

/// `StreamReader.readexactly`.
pub(super) struct StreamReaderReadExactly;

impl AsyncFunction for StreamReaderReadExactly {
    const NAME: &'static str = "StreamReader.readexactly";

    const PARAMETERS: &'static str = "(self, n)";

    const DOC: &'static str = "Returns `n` bytes when there are as many.\n\n\
        The limit does not matter. Raises IncompleteReadError, with what there is, at the end of file; ValueError if `n`\n\
        is negative; the exception that was set; RuntimeError if another coroutine waits already.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (reader, [_, count]) = arguments.method::<StreamReader, 2>(Self::NAME, ["self", "n"])?;
        let count = match count_of(&count) {
            Ok(count) => count,
            Err(error) => return Coroutine::of(py, Self::NAME, Refuse(Some(error))),
        };
        let reader = reader.to_owned().unbind();
        Coroutine::of(py, Self::NAME, ReadExactly { reader, count, waiting: Waiting::default(), begun: false })
    }
}

struct WaitForData {
    reader: Py<StreamReader>,
    name: Py<PyAny>,
    waiting: Waiting,
    begun: bool,
}

impl Frame for WaitForData {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.reader.bind(py);
        if std::mem::replace(&mut self.begun, true) {
            self.waiting.end(py, this.get(), outcome)?;
            return Ok(Next::Return(py.None().into_bound(py)));
        }
        let name = self.name.bind(py).str()?;
        self.waiting.begin_natively(this, name.cast::<PyString>()?.to_str()?)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        visit.call(&self.name)?;
        self.waiting.traverse(visit)
    }
}

/// `StreamReader._wait_for_data`, which subclasses call and override.
pub(super) struct StreamReaderWaitForData;

impl AsyncFunction for StreamReaderWaitForData {
    const NAME: &'static str = "StreamReader._wait_for_data";

    const PARAMETERS: &'static str = "(self, func_name)";

    const DOC: &'static str = "Waits for data or the end of file.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (reader, [_, name]) = arguments.method::<StreamReader, 2>(Self::NAME, ["self", "func_name"])?;
        let (reader, name) = (reader.to_owned().unbind(), name.to_owned().unbind());
        Coroutine::of(py, Self::NAME, WaitForData { reader, name, waiting: Waiting::default(), begun: false })
    }
}
