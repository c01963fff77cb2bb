//! `async def` functions whose body is Rust.
//!
//! asyncio's functions are coroutine functions to `inspect.iscoroutinefunction`, have a signature, bind as methods, can
//! be pickled by name, and a decorator can look at their code. All that is what makes a function of the interpreter's
//! own class. So it is one: compiled from its `async def` line, and called through a vectorcall of ours, which is what
//! the interpreter lets a function have. The compiled body is never run.
//!
//! Python 3.11 does not look at a function's vectorcall when Python code calls it. There the compiled body awaits the
//! coroutine that the call returns.

use std::ffi::CString;
use std::fmt::Write;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::method::CallArguments;
use super::raise::into_pointer;
use super::runnable::trampoline;

/// A function with a Rust body that returns a coroutine.
pub(crate) trait AsyncFunction {
    /// The name, as `__qualname__` has it.
    const NAME: &'static str;

    /// The parameters, as Python writes them: `"(self, delay, result=None)"`.
    const PARAMETERS: &'static str;

    /// The documentation.
    const DOC: &'static str;

    /// The call. Nothing of the function's work is done before the coroutine it returns is driven.
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// The function as an object.
pub(crate) fn make<F: AsyncFunction>(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let globals = PyDict::new(py);
    globals.set_item("__name__", "ferrio")?;
    let compiled = compile::<F>(&globals, "pass")?;
    let code = compiled.getattr("__code__")?;
    let function = copy(&compiled, &globals)?;
    function.setattr("__qualname__", F::NAME)?;
    // SAFETY: `function` is of the class that `async def` makes, and nobody has called it yet.
    unsafe { (*function.as_ptr().cast::<ffi::PyFunctionObject>()).vectorcall = Some(call::<F>) };
    if py.version_info() >= (3, 12) {
        return Ok(function);
    }
    // What calls the function by its vectorcall, and is called as any object is.
    globals.set_item("_call", py.import("functools")?.getattr("partial")?.call1((function,))?)?;
    let calling = compile::<F>(&globals, &format!("return await _call({})", arguments_of(&code)?))?;
    calling.setattr("__qualname__", F::NAME)?;
    Ok(calling)
}

/// The function, compiled with this body.
fn compile<'py, F: AsyncFunction>(globals: &Bound<'py, PyDict>, body: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = globals.py();
    let name = F::NAME.rsplit('.').next().unwrap_or(F::NAME);
    let doc = PyString::new(py, F::DOC).repr()?;
    let source = format!("async def {name}{}:\n    {doc}\n    {body}", F::PARAMETERS);
    let source = CString::new(source).map_err(|_| PyTypeError::new_err("a text with a null byte"))?;
    py.run(&source, Some(globals), None)?;
    let compiled = globals.as_any().get_item(name)?;
    globals.as_any().del_item(name)?;
    Ok(compiled)
}

/// The parameters of a function, as it writes them to hand all of them on.
fn arguments_of(code: &Bound<'_, PyAny>) -> PyResult<String> {
    let names: Vec<String> = code.getattr("co_varnames")?.extract()?;
    let positional: usize = code.getattr("co_argcount")?.extract()?;
    let by_name: usize = code.getattr("co_kwonlyargcount")?.extract()?;
    let flags: u32 = code.getattr("co_flags")?.extract()?;
    let mut names = names.into_iter();
    let mut arguments: Vec<_> = names.by_ref().take(positional).collect();
    let by_name: Vec<_> = names.by_ref().take(by_name).map(|name| format!("{name}={name}")).collect();
    // inspect.CO_VARARGS and CO_VARKEYWORDS.
    arguments.extend((flags & 0x4 != 0).then(|| names.next()).flatten().map(|name| format!("*{name}")));
    arguments.extend(by_name);
    arguments.extend((flags & 0x8 != 0).then(|| names.next()).flatten().map(|name| format!("**{name}")));
    Ok(arguments.join(", "))
}

/// Makes the function a method of its class. To be called once, before the class is used.
pub(crate) fn install<F: AsyncFunction>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let name = F::NAME.rsplit('.').next().unwrap_or(F::NAME);
    class.setattr(name, make::<F>(class.py())?)
}

/// Puts `async def` functions of the same names and signatures in the place of methods of `class` that return
/// coroutines. They call the methods. To be called once, before the class is used.
///
/// What looks at a loop or a server before it calls it, as mocks with a specification do, finds what asyncio's have.
/// The way through the function costs a call of the interpreter's, and a look into a dictionary.
pub(crate) fn promote(class: &Bound<'_, PyType>, names: &[&str]) -> PyResult<()> {
    let py = class.py();
    let is_called_directly = py.version_info() >= (3, 12);
    let mut source = String::new();
    for name in names {
        let method = class.getattr(*name)?;
        let parameters: String = method.getattr("__text_signature__")?.extract()?;
        let doc = method.getattr("__doc__")?.repr()?;
        writeln!(source, "async def {name}{}:\n    {doc}", parameters.replacen('$', "", 1)).map_err(no_text)?;
    }
    let defined = run(py, &source)?;
    let qualifier: String = class.getattr("__qualname__")?.extract()?;
    for name in names {
        let compiled = defined.as_any().get_item(*name)?;
        let globals = PyDict::new(py);
        globals.set_item("__name__", "ferrio")?;
        globals.set_item("__builtins__", py.import("builtins")?)?;
        globals.set_item(intern!(py, "_method"), class.getattr(*name)?)?;
        let code = compiled.getattr("__code__")?;
        let function = if is_called_directly {
            let function = copy(&compiled, &globals)?;
            // SAFETY: `function` is of the class that `async def` makes, and nobody has called it yet.
            unsafe { (*function.as_ptr().cast::<ffi::PyFunctionObject>()).vectorcall = Some(call_method) };
            function
        } else {
            let parameters: String = class.getattr(*name)?.getattr("__text_signature__")?.extract()?;
            let body = format!("return await _method({})", arguments_of(&code)?);
            let source = format!("async def {name}{}:\n    {body}", parameters.replacen('$', "", 1));
            let function = copy(&run(py, &source)?.as_any().get_item(*name)?, &globals)?;
            function.setattr("__doc__", compiled.getattr("__doc__")?)?;
            function
        };
        function.setattr("__qualname__", format!("{qualifier}.{name}"))?;
        class.setattr(*name, function)?;
    }
    Ok(())
}

fn no_text(_: std::fmt::Error) -> PyErr {
    PyTypeError::new_err("a signature that cannot be written")
}

/// What the source defines.
fn run<'py>(py: Python<'py>, source: &str) -> PyResult<Bound<'py, PyDict>> {
    let source = CString::new(source).map_err(|_| PyTypeError::new_err("a text with a null byte"))?;
    let globals = PyDict::new(py);
    py.run(&source, Some(&globals), None)?;
    Ok(globals)
}

/// The function, made by hand and with these globals.
///
/// The one that `async def` made may have been given a version by now, under which calls to it can be specialized. One
/// that is made by hand has none until it is first called, and none then if its vectorcall is not the interpreter's.
fn copy<'py>(compiled: &Bound<'py, PyAny>, globals: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    let parts =
        (compiled.getattr("__code__")?, globals, compiled.getattr("__name__")?, compiled.getattr("__defaults__")?);
    let function = compiled.get_type().call1(parts)?;
    for attribute in ["__kwdefaults__", "__doc__"] {
        function.setattr(attribute, compiled.getattr(attribute)?)?;
    }
    Ok(function)
}

unsafe extern "C" fn call_method(
    function: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with its lock held, by the rules of a vectorcall, which are handed on; the
    // globals of the function are a dictionary that holds the method, unless a program has taken it out. It may do that
    // in the call too, so the method is kept.
    unsafe {
        let py = Python::assume_attached();
        let globals = ffi::PyFunction_GetGlobals(function);
        let method = ffi::PyDict_GetItemWithError(globals, intern!(py, "_method").as_ptr());
        if method.is_null() {
            if ffi::PyErr_Occurred().is_null() {
                PyTypeError::new_err("a method of ferrio's has lost its body").restore(py);
            }
            return std::ptr::null_mut();
        }
        let _kept = Borrowed::from_ptr(py, method).to_owned();
        ffi::PyObject_Vectorcall(method, arguments, count, names)
    }
}

unsafe extern "C" fn call<F: AsyncFunction>(
    _function: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with its lock held, by the rules of a vectorcall.
    let (py, arguments) = unsafe {
        let py = Python::assume_attached();
        let names = Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked::<PyTuple>());
        (py, CallArguments::new(py, arguments, ffi::PyVectorcall_NARGS(count).unsigned_abs(), names))
    };
    trampoline(py, || into_pointer(py, F::call(py, &arguments)))
}
