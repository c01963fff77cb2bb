//! What a reader has received and not given out.

use std::io;
use std::mem::MaybeUninit;

use ferrio::net::Transfer;
use ferrio::stream::{Found, LARGEST, ReadBuffer, Search, Separators};
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PySlice};

use crate::ffi::buffer::with_bytes;
use crate::ffi::bytes::{self, Growing};
use crate::ffi::cell::GilCell;
use crate::ffi::refcount;

/// A reader's bytes.
///
/// What comes for a `read` that waits is kept as the object that it will return, so that it is copied once; what comes
/// for a `readexactly` of many bytes is put into the one that it will return, until anything else is asked for. Other
/// bytes are kept in Rust until somebody asks for the `_buffer` that asyncio's readers have. From then on they are in
/// that object, which its owner may change as it likes; when nobody else has it any more they are taken back.
#[derive(Debug, Default)]
pub(super) struct Buffer(GilCell<Store>);

/// What came of looking for a message.
pub(super) enum Message<'py> {
    /// It is there, and taken out.
    Whole(Bound<'py, PyBytes>),
    /// It is there, and too long.
    TooLong(Found),
    /// No end is there.
    Missing,
}

#[derive(Debug)]
enum Store {
    Native(ReadBuffer),
    /// All that there is, as it will be given out.
    Whole(Py<PyBytes>),
    Python(Py<PyAny>),
    /// On the way to a number of bytes that somebody waits for.
    Expected(Box<Expected>),
}

/// What a `readexactly` will be given, and what has come behind it.
#[derive(Debug)]
struct Expected {
    bytes: Growing,
    behind: ReadBuffer,
}

/// Who waits for more than so many bytes has them copied at the end. They would be reserved before they come.
const MOST_EXPECTED: usize = 16 << 20;

impl Default for Store {
    fn default() -> Self {
        Self::Native(ReadBuffer::default())
    }
}

impl Buffer {
    /// Does `f` with the bytes in Rust, or finds the object that they are in. `f` must run no Python code.
    #[inline]
    fn find<'py, T>(&self, py: Python<'py>, f: impl FnOnce(&mut ReadBuffer) -> T) -> Result<T, Bound<'py, PyAny>> {
        let found = self.0.with(py, |store| match store {
            Store::Native(buffer) => Ok(f(buffer)),
            Store::Whole(_) | Store::Python(_) | Store::Expected(_) => Err(f),
        });
        match found {
            Ok(done) => Ok(done),
            Err(f) => self.find_elsewhere(py, f),
        }
    }

    #[cold]
    fn find_elsewhere<'py, T>(
        &self,
        py: Python<'py>,
        f: impl FnOnce(&mut ReadBuffer) -> T,
    ) -> Result<T, Bound<'py, PyAny>> {
        if let Some(Expected { bytes, behind }) = self.take_expected(py, |_| true) {
            let mut buffer = ReadBuffer::from([bytes.as_slice(py), behind.as_slice()].concat());
            drop(bytes);
            let done = f(&mut buffer);
            drop(self.0.replace(py, Store::Native(buffer)));
            return Ok(done);
        }
        let object = self.0.with(py, |store| match store {
            Store::Native(_) | Store::Expected(_) => None,
            Store::Whole(bytes) => Some(bytes.clone_ref(py).into_any()),
            Store::Python(object) => Some(object.clone_ref(py)),
        });
        let Some(object) = object.map(|object| object.into_bound(py)) else { return self.find(py, f) };
        let content = if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            bytes.as_bytes().to_vec()
        } else if let Ok(array) = object.cast_exact::<PyByteArray>()
            // Ours, and the one in the hand: nobody else has it any more.
            && refcount::count(&object) == 2
        {
            array.to_vec()
        } else {
            return Err(object);
        };
        let mut buffer = ReadBuffer::from(content);
        let done = f(&mut buffer);
        drop(self.0.replace(py, Store::Native(buffer)));
        Ok(done)
    }

    /// How many bytes there are. Runs Python code if they are in an object that Python has put there.
    #[inline]
    pub(super) fn len(&self, py: Python<'_>) -> PyResult<usize> {
        let length = self.0.with(py, |store| match store {
            Store::Native(buffer) => Some(buffer.len()),
            Store::Whole(bytes) => Some(bytes.bind(py).as_bytes().len()),
            Store::Python(_) => None,
            Store::Expected(expected) => Some(expected.bytes.filled() + expected.behind.len()),
        });
        match length {
            Some(length) => Ok(length),
            None => self.find(py, |buffer| buffer.len()).or_else(|object| object.len()),
        }
    }

    /// Puts `data` behind what there is; gives up if that would run Python code. Runs none itself.
    ///
    /// If there is nothing, and the next to read wants at most `wanted` bytes, it makes the `bytes` that are given out.
    #[inline]
    #[must_use]
    pub(super) fn try_push(&self, py: Python<'_>, data: &[u8], wanted: usize) -> bool {
        let (pushed, before) = self.0.with(py, |store| match store {
            Store::Native(buffer) if buffer.is_empty() && data.len() <= wanted => match bytes::copy(py, data) {
                Ok(bytes) => {
                    *store = Store::Whole(bytes.unbind());
                    (true, None)
                }
                // Who asked finds that out for himself.
                Err(_) => (false, None),
            },
            Store::Native(buffer) => {
                buffer.push(data);
                (true, None)
            }
            Store::Whole(bytes) => {
                let mut buffer = ReadBuffer::from(bytes.bind(py).as_bytes().to_vec());
                buffer.push(data);
                (true, Some(std::mem::replace(store, Store::Native(buffer))))
            }
            Store::Python(_) => (false, None),
            Store::Expected(expected) => {
                let rest = expected.bytes.push(py, data);
                expected.behind.push(rest);
                (true, None)
            }
        });
        drop(before);
        pushed
    }

    /// Puts `data`, anything with bytes or an iterable of numbers, behind what there is.
    pub(super) fn push(&self, data: &Bound<'_, PyAny>, wanted: usize) -> PyResult<()> {
        let py = data.py();
        if let Ok(bytes) = data.cast_exact::<PyBytes>()
            && self.keep_whole(bytes, wanted)
        {
            return Ok(());
        }
        if self.is_expecting(py) && with_bytes(data, |data| self.try_push(py, data, 0)).unwrap_or(false) {
            return Ok(());
        }
        let object = match self.find(py, |_| ()) {
            Err(object) => object,
            Ok(()) => {
                if with_bytes(data, |data| self.try_push(py, data, 0)).unwrap_or(false) {
                    return Ok(());
                }
                let array = PyByteArray::new(py, &[]);
                array.call_method1(intern!(py, "extend"), (data,))?;
                if with_bytes(&array, |data| self.try_push(py, data, 0))? {
                    return Ok(());
                }
                self.to_object(py)
            }
        };
        object.call_method1(intern!(py, "extend"), (data,)).map(drop)
    }

    /// Keeps the object itself, if it is what the next to read will be given.
    fn keep_whole(&self, bytes: &Bound<'_, PyBytes>, wanted: usize) -> bool {
        let py = bytes.py();
        bytes.as_bytes().len() <= wanted
            && self.0.with(py, |store| match store {
                Store::Native(buffer) if buffer.is_empty() => {
                    *store = Store::Whole(bytes.clone().unbind());
                    true
                }
                _ => false,
            })
    }

    /// Has what there is, and what comes, put into the `bytes` that a reader of exactly `count` will be given. False if
    /// it is elsewhere, or that would be too large.
    pub(super) fn expect(&self, py: Python<'_>, count: usize) -> bool {
        if count > MOST_EXPECTED {
            return false;
        }
        let made = self.0.with(py, |store| match store {
            Store::Expected(expected) => Ok(expected.bytes.len(py) == count),
            Store::Native(buffer) if buffer.len() <= count => {
                let made = Growing::new(py, count).map(|mut bytes| {
                    bytes.push(py, buffer.as_slice());
                    Store::Expected(Box::new(Expected { bytes, behind: ReadBuffer::default() }))
                });
                made.map(|made| {
                    *store = made;
                    true
                })
            }
            _ => Ok(false),
        });
        // Without the memory for it now, it is tried again when it is there.
        made.unwrap_or(false)
    }

    /// Nobody waits any more for the number of bytes that was expected: what has come of it is bytes as any.
    #[cold]
    pub(super) fn expect_nothing(&self, py: Python<'_>) {
        // An object of Python's stays what it is.
        _ = self.find(py, |_| ());
    }

    /// Whether a number of bytes is waited for.
    pub(super) fn is_expecting(&self, py: Python<'_>) -> bool {
        self.0.with(py, |store| matches!(store, Store::Expected(_)))
    }

    /// Has `fill` receive what is expected.
    ///
    /// # Errors
    ///
    /// Those of `fill`.
    pub(super) fn receive_expected(
        &self,
        py: Python<'_>,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<Transfer>,
    ) -> io::Result<Transfer> {
        self.0.with(py, |store| match store {
            Store::Expected(expected) if !expected.bytes.is_whole(py) => expected.bytes.receive(py, LARGEST, fill),
            _ => Ok(Transfer::WouldBlock),
        })
    }

    /// Takes out what is expected, if there is such and `condition` holds. Nothing is there then.
    fn take_expected(&self, py: Python<'_>, condition: impl FnOnce(&Expected) -> bool) -> Option<Expected> {
        self.0.with(py, |store| match store {
            Store::Expected(expected) if condition(expected) => match std::mem::take(store) {
                Store::Expected(expected) => Some(*expected),
                _ => None,
            },
            _ => None,
        })
    }

    /// Takes the number of bytes out that was waited for, if it is there.
    #[cold]
    fn take_whole_expected<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let is_it = |expected: &Expected| expected.bytes.is_whole(py) && expected.bytes.filled() == count;
        let Some(Expected { bytes, behind }) = self.take_expected(py, is_it) else { return Ok(None) };
        drop(self.0.replace(py, Store::Native(behind)));
        bytes.finish(py).map(Some)
    }

    /// Takes out what is as it will be given out, if that is no more than `count` bytes.
    #[inline]
    fn take_whole<'py>(&self, py: Python<'py>, count: usize) -> Option<Bound<'py, PyBytes>> {
        let whole = self.0.with(py, |store| match store {
            Store::Whole(bytes) if bytes.bind(py).as_bytes().len() <= count => Some(std::mem::take(store)),
            _ => None,
        });
        match whole {
            Some(Store::Whole(bytes)) => Some(bytes.into_bound(py)),
            _ => None,
        }
    }

    /// Puts `data`, which was taken out, back before what there is.
    pub(super) fn unread(&self, py: Python<'_>, data: Vec<u8>) -> PyResult<()> {
        let mut data = Some(data);
        let found = self.find(py, |buffer| data.take().into_iter().for_each(|data| buffer.unread(data)));
        match (found, data) {
            (Err(object), Some(data)) => object.set_item(PySlice::new(py, 0, 0, 1), PyBytes::new(py, &data)),
            _ => Ok(()),
        }
    }

    /// Takes up to `count` bytes out.
    #[inline]
    pub(super) fn take<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(whole) = self.take_whole(py, count) {
            return Ok(whole);
        }
        if self.is_expecting(py)
            && let Some(whole) = self.take_whole_expected(py, count)?
        {
            return Ok(whole);
        }
        let taken = self.find(py, |buffer| {
            let count = count.min(buffer.len());
            let taken = bytes::copy(py, &buffer.as_slice()[..count]);
            if taken.is_ok() {
                buffer.consume(count);
            }
            taken
        });
        taken.unwrap_or_else(|object| {
            let taken = with_bytes(&object, |data| bytes::copy(py, &data[..count.min(data.len())]))??;
            delete(&object, taken.as_bytes().len())?;
            Ok(taken)
        })
    }

    /// Takes all bytes out, and puts them behind `collected`.
    pub(super) fn drain_into(&self, py: Python<'_>, collected: &mut Growing) -> PyResult<()> {
        let drained = self.find(py, |buffer| {
            collected.extend(py, buffer.as_slice())?;
            buffer.clear();
            Ok(())
        });
        drained.unwrap_or_else(|object| {
            let count = with_bytes(&object, |data| collected.extend(py, data).map(|()| data.len()))??;
            delete(&object, count)
        })
    }

    /// Forgets up to `count` bytes.
    pub(super) fn skip(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.find(py, |buffer| buffer.consume(count.min(buffer.len()))).or_else(|object| delete(&object, count))
    }

    /// Looks for a message, and takes it out if it is whole and not longer than `limit`.
    #[inline]
    pub(super) fn take_message<'py>(
        &self,
        py: Python<'py>,
        separators: &Separators,
        search: &mut Search,
        limit: usize,
    ) -> PyResult<Message<'py>> {
        let taken = self.find(py, |buffer| match search.find(separators, buffer.as_slice()) {
            Some(found) if found.start <= limit => {
                let message = bytes::copy(py, &buffer.as_slice()[..found.end])?;
                buffer.consume(found.end);
                Ok(Message::Whole(message))
            }
            Some(found) => Ok(Message::TooLong(found)),
            None => Ok(Message::Missing),
        });
        taken.unwrap_or_else(|object| match with_bytes(&object, |data| search.find(separators, data))? {
            Some(found) if found.start <= limit => self.take(py, found.end).map(Message::Whole),
            Some(found) => Ok(Message::TooLong(found)),
            None => Ok(Message::Missing),
        })
    }

    /// Takes the next line out if it is there, in Rust, and not longer than `limit`.
    /// [`take_message`](Self::take_message) knows what to do if it is not.
    #[inline]
    pub(super) fn take_line<'py>(
        &self,
        py: Python<'py>,
        search: &mut Search,
        limit: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.0.with(py, |store| {
            let Store::Native(buffer) = store else { return Ok(None) };
            match search.find_byte(b'\n', buffer.as_slice()) {
                Some(length) if length <= limit => {
                    let line = bytes::copy(py, &buffer.as_slice()[..=length])?;
                    buffer.consume(length + 1);
                    Ok(Some(line))
                }
                _ => Ok(None),
            }
        })
    }

    /// Whether the byte at `index` is `byte`.
    pub(super) fn has_at(&self, py: Python<'_>, index: usize, byte: u8) -> PyResult<bool> {
        self.find(py, |buffer| buffer.as_slice().get(index) == Some(&byte))
            .or_else(|object| with_bytes(&object, |data| data.get(index) == Some(&byte)))
    }

    /// The `_buffer` attribute: a `bytearray`, unless another object was put there. The bytes are in it from now on.
    pub(super) fn to_object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let object = self.find(py, std::mem::take);
        object.map_or_else(
            |object| object,
            |buffer| {
                let object = PyByteArray::new(py, buffer.as_slice()).into_any();
                self.set(object.clone());
                object
            },
        )
    }

    /// Sets the `_buffer` attribute.
    pub(super) fn set(&self, object: Bound<'_, PyAny>) {
        let py = object.py();
        drop(self.0.replace(py, Store::Python(object.unbind())));
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |store, visit| match store {
            // Nobody else has the `bytes` that are expected.
            Store::Native(_) | Store::Expected(_) => Ok(()),
            Store::Whole(bytes) => visit.call(bytes),
            Store::Python(object) => visit.call(object),
        })
    }

    pub(super) fn clear(&self, py: Python<'_>) {
        drop(self.0.take(py));
    }
}

/// `del object[:count]`
fn delete(object: &Bound<'_, PyAny>, count: usize) -> PyResult<()> {
    let count = isize::try_from(count)?;
    object.del_item(PySlice::new(object.py(), 0, count, 1))
}
