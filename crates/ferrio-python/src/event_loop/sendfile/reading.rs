//! A file that is read in a thread.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView, PySlice};

use super::Part;
use crate::coroutine::await_;
use crate::event_loop::weak_loop::WeakLoop;

/// How far reading has come.
pub(super) struct Reading {
    file: Py<PyAny>,
    buffer: Py<PyByteArray>,
    offset: Py<PyAny>,
    left: Option<u64>,
    size: usize,
    /// How much of the buffer was read, and is being sent.
    chunk: usize,
    pub(super) sent: u64,
    can_seek: bool,
}

impl Reading {
    pub(super) fn new(py: Python<'_>, part: &Part, size: usize) -> PyResult<Self> {
        let file = part.file.bind(py);
        let can_seek = file.hasattr(intern!(py, "seek"))?;
        if can_seek {
            file.call_method1(intern!(py, "seek"), (&part.offset,))?;
        }
        let left = match &part.count {
            Some(count) if count.is_truthy(py)? => Some(count.extract(py).unwrap_or(u64::MAX)),
            _ => None,
        };
        let size = left.map_or(size, |left| usize::try_from(left).map_or(size, |left| left.min(size)));
        let buffer = PyByteArray::new_with(py, size, |_| Ok(()))?.unbind();
        let (file, offset) = (file.clone().unbind(), part.offset.clone_ref(py));
        Ok(Self { file, buffer, offset, left, size, chunk: 0, sent: 0, can_seek })
    }

    /// Reads the next chunk; `None` if there is no more.
    pub(super) async fn read(&mut self, event_loop: &WeakLoop) -> PyResult<Option<Py<PyAny>>> {
        let size =
            self.left.map_or(self.size, |left| usize::try_from(left).map_or(self.size, |left| left.min(self.size)));
        if size == 0 {
            return Ok(None);
        }
        let reading = Python::attach(|py| {
            let readinto = self.file.bind(py).getattr(intern!(py, "readinto"))?;
            let call = (py.None(), readinto, self.view(py, size)?);
            event_loop.get(py)?.call_method1(intern!(py, "run_in_executor"), call).map(Bound::unbind)
        })?;
        let read = await_(reading).await?;
        Python::attach(|py| {
            // None is what a file that would block has read.
            self.chunk = if read.is_truthy(py)? { read.extract(py)? } else { 0 };
            if self.chunk == 0 { Ok(None) } else { Ok(Some(self.view(py, self.chunk)?.unbind())) }
        })
    }

    fn view<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyAny>> {
        PyMemoryView::from(self.buffer.bind(py))?.get_item(PySlice::new(py, 0, isize::try_from(size)?, 1))
    }

    pub(super) fn count_chunk(&mut self) {
        let chunk = self.chunk as u64;
        self.sent += chunk;
        self.left = self.left.map(|left| left.saturating_sub(chunk));
    }

    /// Has the file go on behind what was sent, in whole chunks; where it began, if nothing was.
    pub(super) fn set_position(&self, py: Python<'_>) -> PyResult<()> {
        if !self.can_seek {
            return Ok(());
        }
        let position = self.offset.bind(py).add(self.sent)?;
        self.file.bind(py).call_method1(intern!(py, "seek"), (position,)).map(drop)
    }
}
