//! What a handle's class is called with by Python: by a subclass, or by a loop of another make.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::work::Arguments;

const NAMES: [&str; 5] = ["when", "callback", "args", "loop", "context"];

/// The values of the parameters `when` (for a timer), `callback`, `args`, `loop` and `context`.
pub(super) struct Given<'py> {
    pub(super) when: Option<Bound<'py, PyAny>>,
    pub(super) callback: Bound<'py, PyAny>,
    pub(super) arguments: Arguments,
    pub(super) loop_object: Bound<'py, PyAny>,
    pub(super) context: Option<Bound<'py, PyAny>>,
}

impl<'py> Given<'py> {
    /// # Errors
    ///
    /// `TypeError` if one is missing, or is none of these.
    pub(super) fn new(args: &Bound<'py, PyTuple>, kwargs: Option<&Bound<'py, PyDict>>, timer: bool) -> PyResult<Self> {
        let py = args.py();
        let names = if timer { &NAMES[..] } else { &NAMES[1..] };
        Self::refuse_others(args, kwargs, names)?;
        let value = |name: &str| match names.iter().position(|other| *other == name) {
            Some(index) if index < args.len() => args.get_item(index).map(Some),
            Some(_) => kwargs.map_or(Ok(None), |kwargs| kwargs.get_item(name)),
            None => Ok(None),
        };
        let required = |name: &str| {
            value(name)?.ok_or_else(|| PyTypeError::new_err(format!("missing a required argument: '{name}'")))
        };
        let arguments = required("args")?;
        let arguments = match arguments.cast_into::<PyTuple>() {
            Ok(arguments) => arguments,
            Err(other) => PyTuple::new(py, other.into_inner().try_iter()?.collect::<PyResult<Vec<_>>>()?)?,
        };
        Ok(Self {
            when: if timer { Some(required("when")?) } else { None },
            callback: required("callback")?,
            arguments: Arguments::new(arguments),
            loop_object: required("loop")?,
            context: value("context")?.filter(|context| !context.is_none()),
        })
    }

    fn refuse_others(args: &Bound<'py, PyTuple>, kwargs: Option<&Bound<'py, PyDict>>, names: &[&str]) -> PyResult<()> {
        if args.len() > names.len() {
            let text = format!("at most {} arguments were expected, got {}", names.len(), args.len());
            return Err(PyTypeError::new_err(text));
        }
        for name in kwargs.into_iter().flat_map(|kwargs| kwargs.keys()) {
            let name: String = name.extract()?;
            match names.iter().position(|other| *other == name) {
                Some(index) if index >= args.len() => {}
                Some(_) => return Err(PyTypeError::new_err(format!("got multiple values for argument '{name}'"))),
                None => return Err(PyTypeError::new_err(format!("got an unexpected keyword argument '{name}'"))),
            }
        }
        Ok(())
    }
}
