//! Signal handlers, and the interpreter's wake-up descriptor.
//!
//! The interpreter writes the number of each signal that it catches to one descriptor. The main thread's loop sets that
//! to its own pipe while it runs, or while it has handlers, so that a signal ends its wait at once even when it arrives
//! between two looks; and puts back what was there. Where somebody else has a descriptor, a loop without handlers
//! leaves that in its place: who waits in the loop for what comes there, as Twisted's reactor does, learns of signals
//! by it.

use ferrio::engine::Runnable;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyTuple};

use super::EventLoop;
use super::schedule::refuse_coroutine;
use crate::asyncio;
use crate::ffi::descriptor::borrow;
use crate::ffi::runnable::runnable;
use crate::handles::{Arguments, Handle, RunHandle};

#[pymethods]
impl EventLoop {
    /// Has `callback(*args)` called by the loop when the signal `sig` arrives.
    ///
    /// Raises TypeError or ValueError if `sig` is no signal, RuntimeError if it cannot be caught or this is not the
    /// main thread.
    #[pyo3(signature = (sig, callback, *args))]
    fn add_signal_handler<'py>(
        slf: &Bound<'py, Self>,
        sig: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let py = slf.py();
        refuse_coroutine(&callback, "add_signal_handler")?;
        let number = check_signal(sig)?;
        let core = slf.as_super().get();
        core.check_open(py)?;
        Self::hold_wakeup_fd(slf).map_err(|error| PyRuntimeError::new_err(error.value(py).to_string()))?;
        let handle = Handle::create(slf.as_super(), callback.unbind(), Arguments::new(args), None)?.unbind();
        let queued: Runnable = runnable::<RunHandle>(handle.clone_ref(py));
        // Two of the same: the engine queues one, this class says what is handled. Both predecessors go here.
        let previous = slf.get().signal_handlers.with(py, |handlers| handlers.insert(number.into(), handle));
        drop((previous, core.engine(py).signals().set(number, queued)));
        let signal = signal_module(py)?;
        let installed = (|| {
            signal.call_method1("signal", (number, pyo3::wrap_pyfunction!(ignore, py)?))?;
            // System calls that the handler interrupts go on by themselves.
            signal.call_method1("siginterrupt", (number, false))
        })();
        if let Err(error) = installed {
            Self::forget_signal(slf, number);
            Self::release_wakeup_fd(slf)?;
            return Err(cannot_be_caught(py, error, number));
        }
        Ok(())
    }

    /// Brings the default handling of `sig` back. False if the loop did not handle it.
    fn remove_signal_handler(slf: &Bound<'_, Self>, sig: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        let number = check_signal(sig)?;
        if !Self::forget_signal(slf, number) {
            return Ok(false);
        }
        let signal = signal_module(py)?;
        let default = if i32::from(number) == libc::SIGINT { "default_int_handler" } else { "SIG_DFL" };
        let restored = signal.call_method1("signal", (number, signal.getattr(default)?));
        Self::release_wakeup_fd(slf)?;
        match restored {
            Ok(_) => Ok(true),
            Err(error) => Err(cannot_be_caught(py, error, number)),
        }
    }

    #[getter]
    fn _signal_handlers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let handlers = PyDict::new(py);
        let all: Vec<_> = self
            .signal_handlers
            .with(py, |all| all.iter().map(|(number, handle)| (*number, handle.clone_ref(py))).collect());
        for (number, handle) in all {
            handlers.set_item(number, handle)?;
        }
        Ok(handlers)
    }
}

impl EventLoop {
    /// Takes every handler out, for a loop that closes.
    pub(super) fn remove_all_signal_handlers(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let numbers: Vec<i32> = slf.get().signal_handlers.with(py, |handlers| handlers.keys().copied().collect());
        if !numbers.is_empty() && asyncio::is_finalizing(py)?.call0()?.is_truthy()? {
            // The interpreter has let go of the signals itself.
            drop(slf.get().signal_handlers.take(py));
            let text = format!(
                "Closing the loop {} on interpreter shutdown stage, skipping signal handlers removal",
                slf.repr()?
            );
            return asyncio::warn_of(slf, &text);
        }
        for number in numbers {
            let number = number.into_pyobject(py)?;
            Self::remove_signal_handler(slf, number.as_any())?;
        }
        Ok(())
    }

    fn forget_signal(slf: &Bound<'_, Self>, number: u8) -> bool {
        let py = slf.py();
        let handle = slf.get().signal_handlers.with(py, |handlers| handlers.remove(&i32::from(number)));
        let queued = slf.as_super().get().engine(py).signals().remove(number);
        let found = handle.is_some();
        drop((handle, queued));
        found
    }

    /// Makes the loop's pipe the wake-up descriptor, also where somebody has set another since the last time.
    ///
    /// # Errors
    ///
    /// `ValueError` on any thread but the main one.
    fn hold_wakeup_fd(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        leave_to_parents(py)?;
        let writer = Self::own_wakeup_fd(slf)?;
        let before = set_wakeup_fd(py, writer)?;
        if before != writer {
            slf.get().wakeup_fd.set(py, Some(before));
        }
        Ok(())
    }

    fn own_wakeup_fd(slf: &Bound<'_, Self>) -> PyResult<i32> {
        let core = slf.as_super().get();
        let engine = core.engine(slf.py());
        Ok(engine.signals().writer(engine.reactor())?)
    }

    /// For a loop that begins to run: a thread other than the main one does without.
    pub(super) fn hold_wakeup_fd_on_main_thread(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        match Self::hold_wakeup_fd(slf) {
            Err(error) if error.is_instance_of::<PyValueError>(py) => return Ok(()),
            result => result?,
        }
        // That there is one shows only when another is set.
        let theirs = slf.get().wakeup_fd.get(py).filter(|fd| *fd != -1);
        let handles = slf.get().signal_handlers.with(py, |handlers| !handlers.is_empty());
        let Some(theirs) = theirs.filter(|_| !handles) else { return Ok(()) };
        match put_back_wakeup_fd(py, theirs) {
            // It blocks by now: nothing may be written to it by a handler, and the interpreter refuses it.
            Err(error) if error.is_instance_of::<PyValueError>(py) => return Ok(()),
            result => drop(result?),
        }
        slf.get().wakeup_fd.set(py, None);
        // What came between the two.
        slf.as_super().get().engine(py).signals().pass_on(borrow(theirs));
        Ok(())
    }

    /// Puts the descriptor back that was there before, once the loop neither runs nor handles signals. One that
    /// somebody has set since stays.
    pub(super) fn release_wakeup_fd(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let handles = slf.get().signal_handlers.with(py, |handlers| !handlers.is_empty());
        if handles || slf.as_super().get().is_running(py) {
            return Ok(());
        }
        let Some(previous) = slf.get().wakeup_fd.replace(py, None) else { return Ok(()) };
        let own = Self::own_wakeup_fd(slf)?;
        match put_back_wakeup_fd(py, previous) {
            Ok(last) if last != own => put_back_wakeup_fd(py, last).map(drop),
            // A loop that is closed on another thread cannot take its pipe out; the interpreter ignores a closed one.
            Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(()),
            result => result.map(drop),
        }
    }
}

/// Has the child of a fork begin without a wake-up descriptor. The one that it inherits is its parent's pipe, where the
/// child's signals would be taken for the parent's.
fn leave_to_parents(py: Python<'_>) -> PyResult<()> {
    static DONE: PyOnceLock<()> = PyOnceLock::new();
    let register = || {
        // Later ones have asyncio do it, for every loop.
        if py.version_info() >= (3, 12) {
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item("after_in_child", pyo3::wrap_pyfunction!(forget_wakeup_fd, py)?)?;
        asyncio::module(py, "os")?.call_method("register_at_fork", (), Some(&keywords)).map(drop)
    };
    DONE.get_or_try_init(py, register).copied()
}

/// As [`set_wakeup_fd`]; there is none afterwards if `fd` was closed meanwhile, by its owner.
fn put_back_wakeup_fd(py: Python<'_>, fd: i32) -> PyResult<i32> {
    match set_wakeup_fd(py, fd) {
        Err(error) if error.is_instance_of::<PyOSError>(py) => set_wakeup_fd(py, -1),
        result => result,
    }
}

fn signal_module(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    asyncio::module_used_by("asyncio.unix_events", intern!(py, "signal"))
}

/// Makes `fd` the wake-up descriptor, -1 for none, and returns the one before.
fn set_wakeup_fd(py: Python<'_>, fd: i32) -> PyResult<i32> {
    let keywords = PyDict::new(py);
    // A full pipe has a byte for the loop to wake up for: nothing is lost that a warning could help with.
    keywords.set_item(intern!(py, "warn_on_full_buffer"), false)?;
    signal_module(py)?.call_method("set_wakeup_fd", (fd,), Some(&keywords))?.extract()
}

/// What the child of a fork calls.
#[pyfunction]
fn forget_wakeup_fd(py: Python<'_>) -> PyResult<()> {
    set_wakeup_fd(py, -1).map(drop)
}

/// The handler that Python has for a signal that the loop handles: the pipe is told, and that is all.
#[pyfunction]
#[pyo3(signature = (*_arguments))]
fn ignore(_arguments: &Bound<'_, PyTuple>) {}

fn check_signal(sig: &Bound<'_, PyAny>) -> PyResult<u8> {
    let py = sig.py();
    if !sig.is_instance_of::<PyInt>() {
        return Err(PyTypeError::new_err(format!("sig must be an int, not {}", sig.repr()?)));
    }
    let valid = signal_module(py)?.call_method0("valid_signals")?.contains(sig)?;
    match sig.extract::<u8>() {
        Ok(number) if valid => Ok(number),
        _ => Err(PyValueError::new_err(format!("invalid signal number {}", sig.str()?))),
    }
}

fn cannot_be_caught(py: Python<'_>, error: PyErr, number: u8) -> PyErr {
    let errno = error.value(py).getattr("errno").and_then(|errno| errno.extract::<i32>());
    match errno {
        Ok(libc::EINVAL) => PyRuntimeError::new_err(format!("sig {number} cannot be caught")),
        _ => error,
    }
}
