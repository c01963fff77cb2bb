//! Handles that another thread has.
//!
//! `call_soon_threadsafe` gives its handle to a thread that may cancel it at any time. That it is not in the middle of
//! its callback when `cancel()` returns is what such a thread relies on, to give up what the callback uses. So it
//! waits; the loop's own thread, which can only come from inside the callback, does not.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::handle::Handle;
use crate::asyncio;
use crate::ffi::cell::GilCell;
use crate::ffi::thread::current_thread;
use crate::loop_ref::LoopRef;

/// Whether other threads have a handle, and what they see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// It is the loop's thread's alone.
    Not,
    /// Its callback does not run.
    Idle,
    /// Its callback runs.
    Running,
    /// Its callback runs, and somebody is in [`WAITING`] for its end.
    Awaited,
}

impl Handle {
    /// Lets other threads wait for the callback.
    pub(crate) fn share(&self, py: Python<'_>) {
        self.sharing.set(py, Sharing::Idle);
    }
}

/// The length of a callback of a shared handle.
pub(super) struct Running<'a, 'py>(Option<&'a Bound<'py, Handle>>);

impl<'a, 'py> Running<'a, 'py> {
    #[inline]
    pub(super) fn begin(handle: &'a Bound<'py, Handle>) -> Self {
        let sharing = &handle.get().sharing;
        if sharing.get(handle.py()) != Sharing::Idle {
            return Self(None);
        }
        sharing.set(handle.py(), Sharing::Running);
        Self(Some(handle))
    }
}

impl Drop for Running<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(handle) = self.0
            && handle.get().sharing.replace(handle.py(), Sharing::Idle) == Sharing::Awaited
        {
            wake(handle);
        }
    }
}

/// Who waits for the end of a callback: the handle's address, which it keeps meanwhile, and a `threading.Event`.
static WAITING: GilCell<Vec<(usize, Py<PyAny>)>> = GilCell::new(Vec::new());

/// Wakes who waits for the handle.
#[cold]
fn wake(handle: &Bound<'_, Handle>) {
    let (py, address) = (handle.py(), handle.as_ptr().addr());
    let woken: Vec<_> = WAITING.with(py, |waiting| waiting.extract_if(.., |(other, _)| *other == address).collect());
    for (_, event) in woken {
        if let Err(error) = event.bind(py).call_method0(intern!(py, "set")) {
            error.write_unraisable(py, Some(handle));
        }
    }
}

/// Waits while the handle's callback runs on the loop's thread, if this is another.
///
/// # Errors
///
/// What a signal's handler raises in the wait.
#[inline]
pub(super) fn wait_until_run(handle: &Bound<'_, Handle>) -> PyResult<()> {
    match handle.get().sharing.get(handle.py()) {
        Sharing::Not | Sharing::Idle => Ok(()),
        Sharing::Running | Sharing::Awaited => wait(handle),
    }
}

#[cold]
fn wait(handle: &Bound<'_, Handle>) -> PyResult<()> {
    let py = handle.py();
    let Some(LoopRef::Ours(core)) = handle.get().loop_ref.get(py) else { return Ok(()) };
    let sharing = &handle.get().sharing;
    let event_class = asyncio::module_used_by("asyncio.base_events", intern!(py, "threading"))?.getattr("Event")?;
    while matches!(sharing.get(py), Sharing::Running | Sharing::Awaited)
        && core.get().thread.get(py) != current_thread()
    {
        let event = event_class.call0()?;
        // To make the event may have let the other thread run.
        if sharing.get(py) == Sharing::Idle {
            return Ok(());
        }
        sharing.set(py, Sharing::Awaited);
        let kept = event.clone().unbind();
        WAITING.with(py, |waiting| waiting.push((handle.as_ptr().addr(), kept)));
        event.call_method0(intern!(py, "wait"))?;
    }
    Ok(())
}

/// asyncio's class of such handles, which is a `Handle`; that one where there is none, before Python 3.14.
pub(super) fn asyncios_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let find = || match asyncio::module(py, "asyncio.events").and_then(|events| events.getattr("_ThreadSafeHandle")) {
        Ok(class) => Ok(class.unbind()),
        Err(_) => asyncio::handle_class(py).map(|class| class.clone().unbind()),
    };
    CLASS.get_or_try_init(py, find).map(|class| class.bind(py))
}
