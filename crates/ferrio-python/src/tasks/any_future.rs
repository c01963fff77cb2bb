//! A future of whatever make.
//!
//! gather, `wait`, `as_completed` and shields take futures of ours, which are asked in Rust, and any others, which are
//! asked by asyncio's protocol.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::gather::GatheringFuture;
use super::task::Task;
use crate::asyncio;
use crate::ffi::own_attributes;
use crate::ffi::recursion::deeper;
use crate::futures::{Callback, Future, Notification, Notified, Notify, State, awaited_by};

/// How a future that is done has ended.
pub(crate) enum Ending<'py> {
    Cancelled,
    Raised(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
}

/// One of the two kinds.
#[derive(Clone, Copy)]
pub(crate) enum AnyFuture<'a, 'py> {
    Native(&'a Bound<'py, Future>),
    Foreign(&'a Bound<'py, PyAny>),
}

impl<'a, 'py> AnyFuture<'a, 'py> {
    #[inline]
    pub(crate) fn of(object: &'a Bound<'py, PyAny>) -> Self {
        Future::native(object).map_or(Self::Foreign(object), Self::Native)
    }

    /// `future.done()`. As all others here, it runs Python code for a foreign one.
    #[inline]
    pub(crate) fn is_done(self) -> PyResult<bool> {
        match self {
            Self::Native(future) => Ok(!future.get().is_pending(future.py())),
            Self::Foreign(future) => future.call_method0(intern!(future.py(), "done"))?.is_truthy(),
        }
    }

    #[inline]
    pub(crate) fn is_cancelled(self) -> PyResult<bool> {
        match self {
            Self::Native(future) => Ok(future.get().state(future.py()) == State::Cancelled),
            Self::Foreign(future) => future.call_method0(intern!(future.py(), "cancelled"))?.is_truthy(),
        }
    }

    /// How the future, which is done, has ended. Its exception counts as fetched.
    #[inline]
    pub(crate) fn ending(self) -> PyResult<Ending<'py>> {
        if let Self::Native(future) = self {
            return Ok(match future.get().state(future.py()) {
                State::Cancelled => Ending::Cancelled,
                _ => match Future::failure(future)? {
                    Some(error) => Ending::Raised(error),
                    None => Ending::Returned(Future::result(future)?),
                },
            });
        }
        if self.is_cancelled()? {
            return Ok(Ending::Cancelled);
        }
        Ok(match self.exception()? {
            Some(error) => Ending::Raised(error),
            None => Ending::Returned(self.result()?),
        })
    }

    /// The exception of a future that is done and not cancelled.
    pub(crate) fn exception(self) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Native(future) => Future::failure(future),
            Self::Foreign(future) => {
                let error = future.call_method0(intern!(future.py(), "exception"))?;
                Ok((!error.is_none()).then_some(error))
            }
        }
    }

    /// `future.result()`.
    pub(crate) fn result(self) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Native(future) => Future::result(future),
            Self::Foreign(future) => future.call_method0(intern!(future.py(), "result")),
        }
    }

    /// The error that stands for the cancellation.
    pub(crate) fn cancelled_error(self) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Native(future) => future.get().make_cancelled_error(future.py()),
            Self::Foreign(future) => future.call_method0(intern!(future.py(), "_make_cancelled_error")),
        }
    }

    /// What the future was cancelled with.
    pub(crate) fn cancel_message(self) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Native(future) => Ok(future.get().cancel_message(future.py())),
            Self::Foreign(future) => {
                let message = future.getattr(intern!(future.py(), "_cancel_message"))?;
                Ok((!message.is_none()).then_some(message))
            }
        }
    }

    /// The loop that the future belongs to.
    pub(crate) fn get_loop(self) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Native(future) => Ok(Future::checked_loop(future)?.bind(future.py()).clone()),
            Self::Foreign(future) => match future.getattr(intern!(future.py(), "get_loop")) {
                Ok(get_loop) => get_loop.call0(),
                Err(error) if error.is_instance_of::<PyAttributeError>(future.py()) => {
                    future.getattr(intern!(future.py(), "_loop"))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Has `owner` told when the future is done. The call graph shows until then that `awaiter` waits for it.
    #[inline]
    pub(crate) fn notify<N: Notified>(
        self,
        owner: &Bound<'py, N::Class>,
        awaiter: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let notify = Notify::new::<N>(owner, awaiter);
        match self {
            Self::Native(future) => Future::add_callback(future, Callback::Notify(notify)),
            Self::Foreign(future) => {
                let py = future.py();
                future.call_method1(intern!(py, "add_done_callback"), (notify.into_callable(py)?,))?;
                awaiter.map_or(Ok(()), |awaiter| awaited_by::add(future, awaiter))
            }
        }
    }

    /// Takes back what [`notify`](Self::notify) asked for, unless it is due.
    pub(crate) fn forget(self, owner: &Bound<'py, PyAny>, awaiter: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        match self {
            Self::Native(future) => {
                future.get().forget(owner);
                Ok(())
            }
            Self::Foreign(future) => {
                let like = Notification::like(owner)?;
                future.call_method1(intern!(future.py(), "remove_done_callback"), (like,))?;
                awaiter.map_or(Ok(()), |awaiter| awaited_by::discard(future, awaiter))
            }
        }
    }

    /// Ends the edge of the call graph that came with [`notify`](Self::notify).
    pub(crate) fn forget_awaiter(self, owner: &Bound<'py, PyAny>, awaiter: &Bound<'py, PyAny>) -> PyResult<()> {
        match self {
            Self::Native(future) => {
                future.get().forget_awaiter(owner);
                Ok(())
            }
            Self::Foreign(future) => awaited_by::discard(future, awaiter),
        }
    }
}

/// `future.cancel(msg=message)`, by the shortest way that its class allows. A program may also have put a `cancel`
/// on the object itself, which passes the cancellation on to what the future stands for.
pub(crate) fn cancel(future: &Bound<'_, PyAny>, message: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = future.py();
    let name = intern!(py, "cancel");
    if Future::native(future).is_some() {
        if let Ok(future) = future.cast_exact::<Future>()
            && !own_attributes::has(future, name)?
        {
            return Future::cancel(future, message.cloned());
        }
        if let Ok(task) = future.cast_exact::<Task>()
            && !own_attributes::has(task, name)?
        {
            task.as_super().get().log_traceback_off(py);
            return deeper(py, || Task::request_cancel(task, message));
        }
        if let Ok(gathering) = future.cast_exact::<GatheringFuture>()
            && !own_attributes::has(gathering, name)?
        {
            return deeper(py, || GatheringFuture::cancel_children(gathering, message));
        }
    }
    let Some(message) = message else {
        // A class whose `cancel()` takes no message is as good.
        return future.call_method0(name)?.is_truthy();
    };
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "msg"), message)?;
    future.call_method(name, (), Some(&keywords))?.is_truthy()
}

/// The task that runs on the loop, or None. Runs Python code on Python 3.11.
#[inline]
pub(crate) fn current_task<'py>(loop_object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let task = crate::ffi::call::call1(asyncio::current_task(loop_object.py())?, loop_object)?;
    if task.is_none() { current_python_task(loop_object) } else { Ok(Some(task)) }
}

/// asyncio's tasks that are written in Python, which some programs put in the place of its others, are current in a
/// dictionary of their own.
#[cold]
fn current_python_task<'py>(loop_object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match asyncio::current_python_tasks(loop_object.py())?.cast::<PyDict>() {
        Ok(tasks) => tasks.get_item(loop_object),
        Err(_) => Ok(None),
    }
}
