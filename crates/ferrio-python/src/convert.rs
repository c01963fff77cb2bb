//! Arguments, as Python hands them over.

use std::convert::Infallible;

use pyo3::prelude::*;
use pyo3::{Borrowed, FromPyObject};

/// An argument that may be left out, for which None is a value as any other. `Option` cannot tell the two apart.
#[derive(Default)]
pub(crate) struct Argument<'py>(pub(crate) Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Argument<'py> {
    type Error = Infallible;

    #[inline]
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(Some(object.to_owned())))
    }
}

/// An argument that is looked at as `if` does. `bool` takes True and False only, where programs also give 1, None or
/// what they have.
#[derive(Clone, Copy)]
pub(crate) struct Truth(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}
