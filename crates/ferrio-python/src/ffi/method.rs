//! Methods that are called too often for a general argument parser.
//!
//! PyO3 parses arguments by a description, makes a tuple of the surplus ones and counts attachments; `call_soon` with
//! one argument costs half again as much by that. A [`FastMethod`] is given the interpreter's own array of arguments.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{Borrowed, PyClass};

use super::raise::into_pointer;
use super::runnable::trampoline;

/// The arguments of one call, borrowed from the caller.
pub(crate) struct CallArguments<'a, 'py> {
    positional: &'a [*mut ffi::PyObject],
    named: &'a [*mut ffi::PyObject],
    names: Option<Borrowed<'a, 'py, PyTuple>>,
    py: Python<'py>,
}

impl<'a, 'py> CallArguments<'a, 'py> {
    /// # Safety
    ///
    /// `count` arguments, and one for each of `names`, lie behind `arguments`; the caller holds them all for `'a`.
    pub(super) unsafe fn new(
        py: Python<'py>,
        arguments: *const *mut ffi::PyObject,
        count: usize,
        names: Option<Borrowed<'a, 'py, PyTuple>>,
    ) -> Self {
        let slice = |start: usize, len| match len {
            0 => &[][..],
            // SAFETY: as this function's.
            len => unsafe { std::slice::from_raw_parts(arguments.add(start), len) },
        };
        let named = names.map_or(0, |names| names.len());
        Self { positional: slice(0, count), named: slice(count, named), names, py }
    }

    /// How many positional arguments there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.positional.len()
    }

    /// The positional argument at `index`.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        // SAFETY: the caller of a vectorcall holds its arguments for the length of the call.
        self.positional.get(index).map(|argument| unsafe { Borrowed::from_ptr(self.py, *argument) })
    }

    /// The positional arguments from `index` on.
    #[inline]
    pub(crate) fn rest(&self, index: usize) -> impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>> {
        let py = self.py;
        let rest = self.positional.get(index..).unwrap_or_default();
        // SAFETY: as in `get`.
        rest.iter().map(move |argument| unsafe { Borrowed::from_ptr(py, *argument) })
    }

    /// The one argument of a method that takes one, by position or as `name`.
    ///
    /// # Errors
    ///
    /// `TypeError` if it is missing or there are others.
    #[inline]
    pub(crate) fn only(&self, method: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
        if let ([argument], false) = (self.positional, self.has_named()) {
            // SAFETY: as in `get`.
            return Ok(unsafe { Borrowed::from_ptr(self.py, *argument) }.to_owned());
        }
        let mut found = self.get(0).map(|argument| argument.to_owned());
        for (key, value) in self.named() {
            if found.is_some() || key.cast::<PyString>()?.to_str()? != name {
                return Err(PyTypeError::new_err(format!("{method}() got an unexpected keyword argument '{key}'")));
            }
            found = Some(value.to_owned());
        }
        match found {
            Some(argument) if self.len() <= 1 => Ok(argument),
            _ => {
                let given = self.len() + self.named.len();
                Err(PyTypeError::new_err(format!("{method}() takes exactly one argument ({given} given)")))
            }
        }
    }

    /// The one argument that can be given by position, or as `name`, and others by name, as a dictionary if there are
    /// any. `bound` is how many arguments Python counts besides: 1 for a method, whose object is one.
    ///
    /// # Errors
    ///
    /// `TypeError` if it is missing or others are given by position, with the text that a Python method raises.
    #[inline]
    pub(crate) fn one_and_keywords(
        &self,
        function: &str,
        name: &str,
        bound: usize,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyDict>>)> {
        if let ([argument], false) = (self.positional, self.has_named()) {
            // SAFETY: as in `get`.
            return Ok((unsafe { Borrowed::from_ptr(self.py, *argument) }.to_owned(), None));
        }
        if self.len() > 1 {
            return Err(too_many(function, bound + 1, bound + 1, bound + self.len()));
        }
        let mut first = self.get(0).map(|argument| argument.to_owned());
        let keywords = PyDict::new(self.py);
        for (key, value) in self.named() {
            if first.is_none() && key.cast::<PyString>()?.to_str()? == name {
                first = Some(value.to_owned());
            } else {
                keywords.set_item(key, value)?;
            }
        }
        let first = first.ok_or_else(|| too_few(function, &[name]))?;
        Ok((first, Some(keywords).filter(|keywords| !keywords.is_empty())))
    }

    /// The arguments of a function that takes `N`, by position only.
    ///
    /// # Errors
    ///
    /// `TypeError` if there are more, or less, or others.
    #[inline]
    pub(crate) fn positional<const N: usize>(&self, function: &str) -> PyResult<[Borrowed<'a, 'py, PyAny>; N]> {
        match <[*mut ffi::PyObject; N]>::try_from(self.positional) {
            // SAFETY: as in `get`.
            Ok(all) if !self.has_named() => Ok(all.map(|argument| unsafe { Borrowed::from_ptr(self.py, argument) })),
            Ok(_) => Err(PyTypeError::new_err(format!("{function}() takes no keyword arguments"))),
            Err(_) => {
                let given = self.len();
                Err(PyTypeError::new_err(format!(
                    "{function}() takes exactly {N} positional arguments ({given} given)"
                )))
            }
        }
    }

    /// # Errors
    ///
    /// `TypeError` if there are arguments.
    #[inline]
    pub(crate) fn none(&self, method: &str) -> PyResult<()> {
        match self.positional.len() + self.named.len() {
            0 => Ok(()),
            given => Err(PyTypeError::new_err(format!("{method}() takes no arguments ({given} given)"))),
        }
    }

    /// The arguments as `N` parameters: each by position or name, the first `required` of them needed, those from
    /// `by_name` on by name only.
    ///
    /// # Errors
    ///
    /// `TypeError`, with the text that a Python function raises.
    #[inline]
    pub(crate) fn bind<const N: usize>(
        &self,
        function: &str,
        parameters: [&str; N],
        required: usize,
        by_name: usize,
    ) -> PyResult<[Option<Borrowed<'a, 'py, PyAny>>; N]> {
        let mut bound = [None; N];
        if self.len() > by_name {
            return Err(too_many(function, by_name, required.min(by_name), self.len()));
        }
        for (index, place) in bound.iter_mut().enumerate().take(self.len()) {
            *place = self.get(index);
        }
        if self.has_named() {
            self.bind_named(function, parameters, &mut bound)?;
        }
        if bound.iter().take(required).any(Option::is_none) {
            let missing = parameters.iter().zip(&bound).take(required).filter(|(_, value)| value.is_none());
            return Err(too_few(function, &missing.map(|(name, _)| *name).collect::<Vec<_>>()));
        }
        Ok(bound)
    }

    /// The arguments of a method whose parameters, `self` the first of them, are all required: the object, which is of
    /// class `T`, and all of them.
    ///
    /// # Errors
    ///
    /// `TypeError`, with the text that a Python function raises.
    #[inline]
    #[allow(clippy::type_complexity, reason = "an object and an array")]
    pub(crate) fn method<T: PyClass, const N: usize>(
        &self,
        function: &str,
        parameters: [&str; N],
    ) -> PyResult<(Borrowed<'a, 'py, T>, [Borrowed<'a, 'py, PyAny>; N])> {
        let all = match <[*mut ffi::PyObject; N]>::try_from(self.positional) {
            // SAFETY: as in `get`.
            Ok(all) if !self.has_named() => all.map(|argument| unsafe { Borrowed::from_ptr(self.py, argument) }),
            _ => {
                let bound = self.bind(function, parameters, N, N)?;
                // SAFETY: all are required, so none is missing; and `None` is always alive.
                bound.map(|argument| argument.unwrap_or(unsafe { Borrowed::from_ptr(self.py, ffi::Py_None()) }))
            }
        };
        let object = *all.first().ok_or_else(|| too_few(function, &["self"]))?;
        if object.is_exact_instance_of::<T>() {
            // SAFETY: of the very class.
            return Ok((unsafe { object.cast_unchecked::<T>() }, all));
        }
        Ok((object.cast::<T>()?, all))
    }

    fn bind_named<const N: usize>(
        &self,
        function: &str,
        parameters: [&str; N],
        bound: &mut [Option<Borrowed<'a, 'py, PyAny>>; N],
    ) -> PyResult<()> {
        for (key, value) in self.named() {
            let name = key.cast::<PyString>()?.to_str()?;
            let Some(index) = parameters.iter().position(|parameter| *parameter == name) else {
                let text = format!("{function}() got an unexpected keyword argument '{name}'");
                return Err(PyTypeError::new_err(text));
            };
            if bound[index].replace(value).is_some() {
                let text = format!("{function}() got multiple values for argument '{name}'");
                return Err(PyTypeError::new_err(text));
            }
        }
        Ok(())
    }

    /// The arguments given by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Bound<'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
        let py = self.py;
        let names = self.names.as_ref().map(|names| names.iter()).into_iter().flatten();
        // SAFETY: as in `get`.
        names.zip(self.named).map(move |(name, argument)| (name, unsafe { Borrowed::from_ptr(py, *argument) }))
    }

    /// Whether arguments are given by name.
    #[inline]
    pub(crate) fn has_named(&self) -> bool {
        !self.named.is_empty()
    }
}

#[cold]
fn too_many(function: &str, most: usize, least: usize, given: usize) -> PyErr {
    let takes = if most == least { format!("{most}") } else { format!("from {least} to {most}") };
    let s = if most == 1 { "" } else { "s" };
    let were = if given == 1 { "was" } else { "were" };
    PyTypeError::new_err(format!("{function}() takes {takes} positional argument{s} but {given} {were} given"))
}

#[cold]
fn too_few(function: &str, missing: &[&str]) -> PyErr {
    let quoted: Vec<_> = missing.iter().map(|name| format!("'{name}'")).collect();
    let names = match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first, second] => format!("{first} and {second}"),
        [rest @ .., last] => format!("{}, and {last}", rest.join(", ")),
    };
    let s = if missing.len() == 1 { "" } else { "s" };
    let count = missing.len();
    PyTypeError::new_err(format!("{function}() missing {count} required positional argument{s}: {names}"))
}

/// A method with the calling convention of the interpreter's own.
pub(crate) trait FastMethod {
    type Class: PyClass;

    /// The method's name.
    const NAME: &'static CStr;

    /// The signature, as `inspect` reads it, and the documentation.
    const DOC: &'static CStr;

    /// Does the work.
    fn call<'py>(this: &Bound<'py, Self::Class>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>>;
}

struct Definition<M>(std::marker::PhantomData<M>);

/// A table that the interpreter only reads.
pub(super) struct Table(pub(super) ffi::PyMethodDef);

// SAFETY: what is in it are constants: names, documentation and functions.
unsafe impl Sync for Table {}

impl<M: FastMethod> Definition<M> {
    const TABLE: &'static Table = &Table(ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: call::<M> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: M::DOC.as_ptr(),
    });
}

/// A function of a module with the calling convention of the interpreter's own.
pub(crate) trait FastFunction {
    /// The function's name.
    const NAME: &'static CStr;

    /// The signature, as `inspect` reads it, and the documentation.
    const DOC: &'static CStr;

    /// Does the work.
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>>;
}

impl<F: FastFunction> FunctionDefinition<F> {
    const TABLE: &'static Table = &Table(ffi::PyMethodDef {
        ml_name: F::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: call_function::<F> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: F::DOC.as_ptr(),
    });
}

struct FunctionDefinition<F>(std::marker::PhantomData<F>);

/// Adds the function to `module`, which it names as its own.
pub(crate) fn add_function<F: FastFunction>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let definition = std::ptr::from_ref(&FunctionDefinition::<F>::TABLE.0).cast_mut();
    let name = module.name()?;
    // SAFETY: the definition is static and not written to, the other two are alive; returns a new reference or null.
    let function = unsafe {
        let function = ffi::PyCFunction_NewEx(definition, module.as_ptr(), name.as_ptr());
        Bound::from_owned_ptr_or_err(module.py(), function)?
    };
    module.add(function.getattr("__name__")?.cast::<PyString>()?, function)
}

/// Adds the method to its class. To be called once, before the class is used.
pub(crate) fn install<M: FastMethod>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<M::Class>();
    let definition = std::ptr::from_ref(&Definition::<M>::TABLE.0).cast_mut();
    // SAFETY: the class is alive, the definition static and not written to; returns a new reference or null.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(method.getattr("__name__")?.cast::<PyString>()?, method)
}

unsafe extern "C" fn call_function<F: FastFunction>(
    _module: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as in `call`.
    let (py, arguments) = unsafe {
        let py = Python::assume_attached();
        let names = Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked::<PyTuple>());
        (py, CallArguments::new(py, arguments, count.unsigned_abs(), names))
    };
    trampoline(py, || into_pointer(py, F::call(py, &arguments)))
}

unsafe extern "C" fn call<M: FastMethod>(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with its lock held. The descriptor has checked the class of `this`; `count`
    // positional arguments and one for each of `names` lie behind `arguments`, all held by the caller.
    let (py, this, arguments) = unsafe {
        let py = Python::assume_attached();
        let names = Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked::<PyTuple>());
        let arguments = CallArguments::new(py, arguments, count.unsigned_abs(), names);
        (py, Borrowed::from_ptr(py, this).cast_unchecked::<M::Class>(), arguments)
    };
    trampoline(py, || into_pointer(py, M::call(&this, &arguments)))
}
