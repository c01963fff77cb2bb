//! A descriptor's registration with the reactor.

use std::os::fd::{BorrowedFd, RawFd};

use ferrio::engine::{Direction, SourceKey};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::ffi::cell::GilCopy;
use crate::ffi::descriptor::borrow;
use crate::ffi::runnable::{Job, runnable};
use crate::loop_ref::LoopCore;
use crate::os_error::os_error;

/// A descriptor whose readiness queues what it belongs to.
///
/// The kernel hears of it with the first watch. The reactor holds a reference to whoever watches.
pub(super) struct Source {
    fd: RawFd,
    key: SourceKey,
    watched: GilCopy<Watched>,
}

/// What the reactor tells of.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    input: bool,
    room: bool,
}

impl Watched {
    #[inline]
    fn side(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::Read => &mut self.input,
            Direction::Write => &mut self.room,
        }
    }
}

impl Source {
    /// # Errors
    ///
    /// `ValueError` for what is no descriptor: a socket has -1 in its place once it is closed.
    pub(super) fn new(py: Python<'_>, core: &LoopCore, fd: RawFd) -> PyResult<Self> {
        if fd < 0 {
            return Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}")));
        }
        Ok(Self { fd, key: core.engine(py).reactor().insert(fd), watched: GilCopy::new(Watched::default()) })
    }

    /// The descriptor's number, which stays when the descriptor is closed.
    #[inline]
    pub(super) fn number(&self) -> RawFd {
        self.fd
    }

    /// The descriptor for one system call.
    #[inline]
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        borrow(self.fd)
    }

    #[inline]
    pub(super) fn is_watched(&self, py: Python<'_>, direction: Direction) -> bool {
        *self.watched.get(py).side(direction)
    }

    /// Has the reactor queue `this` as `J` whenever the descriptor is ready, unless it does.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if the loop is closed; `OSError` of the registration.
    pub(super) fn watch<J: Job>(
        &self,
        core: &Bound<'_, LoopCore>,
        direction: Direction,
        this: &Bound<'_, J::Class>,
    ) -> PyResult<()> {
        let py = core.py();
        if self.is_watched(py, direction) {
            return Ok(());
        }
        let core = core.get();
        core.check_open(py)?;
        let work = runnable::<J>(this.clone().unbind());
        let before = core.engine(py).reactor().watch(self.key, direction, work);
        drop(before.map_err(|error| os_error(py, &error))?);
        self.change(py, direction, true);
        Ok(())
    }

    /// Ends the watch in `direction`, if there is one. Drops the reactor's reference, which is not the last: the caller
    /// has one.
    pub(super) fn unwatch(&self, core: &Bound<'_, LoopCore>, direction: Direction) {
        let py = core.py();
        if self.is_watched(py, direction) {
            self.change(py, direction, false);
            drop(core.get().engine(py).reactor().unwatch(self.key, direction));
        }
    }

    /// Ends the registration, before the descriptor is closed: its number may have another owner right afterwards.
    /// Drops references, as [`unwatch`](Self::unwatch) does.
    pub(super) fn remove(&self, core: &Bound<'_, LoopCore>) {
        let py = core.py();
        drop(core.get().engine(py).reactor().remove(self.key));
    }

    fn change(&self, py: Python<'_>, direction: Direction, watched: bool) {
        let mut all = self.watched.get(py);
        *all.side(direction) = watched;
        self.watched.set(py, all);
    }
}
