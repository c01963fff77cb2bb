//! Interior mutability under the interpreter lock.
//!
//! ferrio's classes are frozen for PyO3 and keep what changes in these cells. Every access takes the token that proves
//! the lock is held, and the extension declares that it uses the lock, so a free-threaded interpreter enables it: that
//! is what makes the cells `Sync`. The lock does not keep Python code that is called in the middle of an access from
//! coming back to the same cell; [`GilCell`] therefore counts borrows as `RefCell` does, and an access that re-enters
//! is a panic in a test and never undefined behaviour.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::rc::Rc;

use ferrio::engine::EventLoop;
use pyo3::gc::PyVisit;
use pyo3::{PyTraverseError, Python};

/// A value that is changed in short, closed steps.
#[derive(Debug, Default)]
pub(crate) struct GilCell<T>(RefCell<T>);

// SAFETY: every access holds the interpreter lock for its length (a `Python` token is taken, or a traversal runs, for
// which the interpreter stops every other thread), and no access lasts across a release of the lock, since the closures
// given to `with` call nothing that releases it.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Runs `f` on the value. `f` must not run Python code, the drop of a reference included.
    #[inline]
    pub(crate) fn with<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    /// Puts `value` in the place of the present one, which is returned so that it is dropped outside the borrow.
    #[inline]
    pub(crate) fn replace(&self, _py: Python<'_>, value: T) -> T {
        self.0.replace(value)
    }

    /// The value, when the cell is no longer needed.
    #[inline]
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }

    /// Takes the value out.
    #[inline]
    pub(crate) fn take(&self, _py: Python<'_>) -> T
    where
        T: Default,
    {
        self.0.take()
    }

    /// Shows the value to the garbage collector's visitor. A value that is borrowed right now is left out, which makes
    /// the collector see one reference more than it can account for, and keep the object.
    pub(crate) fn traverse(
        &self,
        visit: PyVisit<'_>,
        f: impl FnOnce(&T, PyVisit<'_>) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        match self.0.try_borrow() {
            Ok(value) => f(&value, visit),
            Err(_) => Ok(()),
        }
    }
}

impl<T> GilCell<Option<pyo3::Py<T>>> {
    /// A new reference to the object.
    #[inline]
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Option<pyo3::Py<T>> {
        self.with(py, |value| value.as_ref().map(|object| object.clone_ref(py)))
    }
}

/// A value that one at a time uses, for as long as that takes: Python code may run meanwhile, and what comes back to
/// the value is told that it is in use.
#[derive(Debug, Default)]
pub(crate) struct GilExclusive<T>(RefCell<T>);

// SAFETY: as for `GilCell`, but that the lock may be released, and taken by another thread, while the value is in use.
// That it is in use is then known to that thread too, since the flag that says so is only touched with the lock held.
unsafe impl<T: Send> Sync for GilExclusive<T> {}

impl<T> GilExclusive<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// The value, unless it is in use; it is, until what is returned goes.
    #[inline]
    pub(crate) fn try_use(&self, _py: Python<'_>) -> Option<RefMut<'_, T>> {
        self.0.try_borrow_mut().ok()
    }

    /// The value, when the cell is no longer needed.
    #[inline]
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }

    /// As [`GilCell::traverse`]: a value in use is left out.
    pub(crate) fn traverse(
        &self,
        visit: PyVisit<'_>,
        f: impl FnOnce(&T, PyVisit<'_>) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        match self.0.try_borrow() {
            Ok(value) => f(&value, visit),
            Err(_) => Ok(()),
        }
    }
}

/// A small value that is copied in and out.
#[derive(Default)]
pub(crate) struct GilCopy<T>(Cell<T>);

// SAFETY: as for `GilCell`; there is no borrow to last at all.
unsafe impl<T: Send> Sync for GilCopy<T> {}

impl<T: Copy + std::fmt::Debug> std::fmt::Debug for GilCopy<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.get().fmt(f)
    }
}

impl<T: Copy> GilCopy<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    #[inline]
    pub(crate) fn get(&self, _py: Python<'_>) -> T {
        self.0.get()
    }

    #[inline]
    pub(crate) fn set(&self, _py: Python<'_>, value: T) {
        self.0.set(value);
    }

    #[inline]
    pub(crate) fn replace(&self, _py: Python<'_>, value: T) -> T {
        self.0.replace(value)
    }
}

/// A value of the loop's thread, such as the engine's own structures, reachable from Python objects.
///
/// It is shared, never mutable: what it refers to is made of cells. The interpreter lock stands in for the thread, as
/// for [`GilCell`].
#[derive(Debug)]
pub(crate) struct GilBound<T>(T);

// SAFETY: see the type: the value is reached only with the interpreter lock held, so that no two threads are in it at
// once, and none of its methods releases the lock.
unsafe impl<T> Send for GilBound<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for GilBound<T> {}

impl GilBound<Rc<EventLoop>> {
    /// Binds an engine, as part of a Python object, to the interpreter lock.
    pub(crate) const fn engine(engine: Rc<EventLoop>) -> Self {
        // SAFETY: the engine is made of cells and descriptors, which any thread may use as long as it is alone; it is
        // dropped with the object, the lock held, and queued objects defer their drop otherwise.
        unsafe { Self::new(engine) }
    }
}

impl<T> GilBound<T> {
    /// Binds `value` to the interpreter lock.
    ///
    /// # Safety
    ///
    /// The value must not care which thread it is used on, as long as it is one at a time; and its drop must be
    /// harmless without the lock.
    const unsafe fn new(value: T) -> Self {
        Self(value)
    }

    #[inline]
    pub(crate) fn get(&self, _py: Python<'_>) -> &T {
        &self.0
    }

    /// For traversals, which have no token but run with the lock held.
    #[inline]
    pub(crate) fn get_in_traverse(&self, _visit: &PyVisit<'_>) -> &T {
        &self.0
    }
}

/// A value that is set once, and only read from then on.
#[derive(Debug)]
pub(crate) struct GilOnce<T>(OnceCell<T>);

// SAFETY: as for `GilCell`: reads and the one write hold the interpreter lock, and what is read never changes.
unsafe impl<T: Send> Sync for GilOnce<T> {}

impl<T> GilOnce<T> {
    pub(crate) const fn empty() -> Self {
        Self(OnceCell::new())
    }

    /// A cell that is set.
    #[inline]
    pub(crate) fn new(value: T) -> Self {
        Self(OnceCell::from(value))
    }

    pub(crate) fn into_inner(self) -> Option<T> {
        self.0.into_inner()
    }

    /// Sets the value.
    ///
    /// # Errors
    ///
    /// Gives `value` back if one is set.
    pub(crate) fn set(&self, _py: Python<'_>, value: T) -> Result<(), T> {
        self.0.set(value)
    }

    #[inline]
    pub(crate) fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.0.get()
    }

    /// For traversals, which have no token but run with the lock held.
    pub(crate) fn get_in_traverse(&self, _visit: &PyVisit<'_>) -> Option<&T> {
        self.0.get()
    }
}
