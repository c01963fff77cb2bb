//! `add_reader`, `add_writer` and their removal: handles that are run whenever a descriptor is ready.

use std::os::fd::RawFd;

use ferrio::engine::Direction;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use super::EventLoop;
use crate::handles::{Arguments, Handle};

#[pymethods]
impl EventLoop {
    /// Has `callback(*args)` called in every turn that finds `fd`, a number or an object with `fileno()`, readable.
    ///
    /// It takes the place of an earlier one. Raises ValueError if `fd` is no descriptor, PermissionError if it is a
    /// file that is always ready, RuntimeError if a transport uses it or the loop is closed.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        Self::check_no_transport(slf, fd)?;
        Self::_add_reader(slf, fd, callback, args, None).map(drop)
    }

    /// Ends what `add_reader` began; false if there was nothing to end.
    fn remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::check_no_transport(slf, fd)?;
        Self::_remove_reader(slf, fd)
    }

    /// As `add_reader`, for a descriptor that is writable.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        Self::check_no_transport(slf, fd)?;
        Self::_add_writer(slf, fd, callback, args, None).map(drop)
    }

    /// Ends what `add_writer` began; false if there was nothing to end.
    fn remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::check_no_transport(slf, fd)?;
        Self::_remove_writer(slf, fd)
    }

    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        let handle = Self::handle_for_fd(slf, callback, args, context)?;
        Self::add_handle(slf, fd, Direction::Read, handle)
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::remove_handle(slf, fd, Direction::Read)
    }

    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        let handle = Self::handle_for_fd(slf, callback, args, context)?;
        Self::add_handle(slf, fd, Direction::Write, handle)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::remove_handle(slf, fd, Direction::Write)
    }

    fn _ensure_fd_no_transport(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::check_no_transport(slf, fd)
    }
}

impl EventLoop {
    fn handle_for_fd<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        let py = slf.py();
        slf.as_super().get().check_open(py)?;
        let (callback, context) = (callback.unbind(), context.map(Bound::unbind));
        Bound::new(py, Handle::new(py, Self::loop_ref(slf), callback, Arguments::new(args), context)?)
    }

    fn add_handle<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        direction: Direction,
        handle: Bound<'py, Handle>,
    ) -> PyResult<Bound<'py, Handle>> {
        let py = slf.py();
        let number = valid(fileno(fd)?)?;
        let watch = Self::new_watch(slf, number, direction, None)?;
        let kept = handle.clone().unbind();
        watch.get().customers.with(py, |customers| customers.handle = Some(kept));
        let left = Self::set_watch(slf, &watch)?;
        if !fd.is_instance_of::<PyInt>() {
            let object = fd.clone().unbind();
            let refused = slf.get().watched.with(py, |all| match all.entry(number) {
                Some(entry) if entry.object.is_none() => entry.object.replace(object),
                _ => Some(object),
            });
            drop(refused);
        }
        if let Some(replaced) = &left.handle {
            Handle::cancel(replaced.bind(py))?;
        }
        Ok(handle)
    }

    fn remove_handle(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>, direction: Direction) -> PyResult<bool> {
        let py = slf.py();
        if slf.as_super().get().closed.get(py) {
            return Ok(false);
        }
        let number = match fileno(fd)? {
            number if number >= 0 => number,
            number => match slf.get().watched.with(py, |all| all.find(fd)) {
                Some(number) => number,
                None => return valid(number).map(|_| false),
            },
        };
        let reactor = slf.as_super().get().engine(py).reactor();
        let (handle, left) = slf.get().watched.with(py, |all| {
            let handle = all.customers(py, number, direction, |customers| customers.handle.take()).flatten();
            (handle, all.tidy(py, reactor, number, direction))
        });
        drop(left);
        match handle {
            Some(handle) => Handle::cancel(handle.bind(py)).map(|()| true),
            None => Ok(false),
        }
    }

    /// # Errors
    ///
    /// `ValueError` if `fd` is neither a number nor has one; `RuntimeError` if a transport that is not closing uses it.
    pub(super) fn check_no_transport(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(transport) = Self::transport_of(slf, fileno(fd)?) else { return Ok(()) };
        let text = format!("File descriptor {} is used by transport {}", fd.repr()?, transport.bind(slf.py()).repr()?);
        Err(PyRuntimeError::new_err(text))
    }
}

/// The number of a descriptor that is given as a number or as an object with `fileno()`, negative ones included.
///
/// # Errors
///
/// `ValueError` if it is neither.
fn fileno(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = object.py();
    if object.is_instance_of::<PyInt>() {
        return number_of(object);
    }
    let number = object.call_method0(intern!(py, "fileno")).and_then(|number| py.get_type::<PyInt>().call1((number,)));
    match number {
        Ok(number) => number_of(&number),
        Err(error)
            if error.is_instance_of::<PyAttributeError>(py)
                || error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py) =>
        {
            Err(PyValueError::new_err(format!("Invalid file object: {}", object.repr()?)))
        }
        Err(error) => Err(error),
    }
}

/// # Errors
///
/// `ValueError` for a negative number that none can be, `OverflowError` for one that is too large.
fn number_of(number: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match number.extract() {
        Err(_) if number.lt(0)? => Err(PyValueError::new_err(format!("Invalid file descriptor: {number}"))),
        result => result,
    }
}

fn valid(fd: RawFd) -> PyResult<RawFd> {
    if fd < 0 { Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}"))) } else { Ok(fd) }
}
