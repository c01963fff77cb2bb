//! `create_subprocess_exec` and `create_subprocess_shell`.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::process::Process;
use super::protocol::SubprocessStreamProtocol;
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::method::CallArguments;

/// Has the running loop make a process.
struct Create {
    method: &'static str,
    /// For the loop's method, behind the protocol factory.
    arguments: Py<PyTuple>,
    keywords: Py<PyDict>,
    limit: Option<Py<PyAny>>,
    /// Once it is asked.
    event_loop: Option<Py<PyAny>>,
}

impl Create {
    fn coroutine<'py>(
        py: Python<'py>,
        function: &'static str,
        method: &'static str,
        arguments: Vec<Bound<'py, PyAny>>,
        keywords: Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        for name in [intern!(py, "stdin"), intern!(py, "stdout"), intern!(py, "stderr")] {
            if !keywords.contains(name)? {
                // Inherited. The loop's methods would make a pipe.
                keywords.set_item(name, py.None())?;
            }
        }
        let limit = keywords.get_item(intern!(py, "limit"))?;
        if limit.is_some() {
            keywords.del_item(intern!(py, "limit"))?;
        }
        let frame = Self {
            method,
            arguments: PyTuple::new(py, arguments)?.unbind(),
            keywords: keywords.unbind(),
            limit: limit.map(Bound::unbind),
            event_loop: None,
        };
        Coroutine::of(py, function, frame)
    }
}

impl Frame for Create {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let outcome = outcome?;
        if let Some(event_loop) = self.event_loop.take() {
            let (transport, protocol): (Bound<'py, PyAny>, Bound<'py, PyAny>) = outcome.extract()?;
            let process = Process::create(&transport, &protocol, event_loop.bind(py))?;
            return Ok(Next::Return(process.into_any()));
        }
        let event_loop = asyncio::running_loop(py)?;
        let factory = Factory {
            limit: self.limit.as_ref().map(|limit| limit.clone_ref(py)),
            event_loop: event_loop.clone().unbind(),
        };
        let factory = Bound::new(py, factory)?.into_any();
        let arguments = std::iter::once(factory).chain(self.arguments.bind(py).iter()).collect::<Vec<_>>();
        let start = event_loop.call_method(self.method, PyTuple::new(py, arguments)?, Some(self.keywords.bind(py)))?;
        self.event_loop = Some(event_loop.unbind());
        Ok(Next::Await(start))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.arguments)?;
        visit.call(&self.keywords)?;
        visit.call(&self.limit)?;
        visit.call(&self.event_loop)
    }
}

/// Makes the process's protocol.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Factory {
    limit: Option<Py<PyAny>>,
    event_loop: Py<PyAny>,
}

#[pymethods]
impl Factory {
    fn __call__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, SubprocessStreamProtocol>> {
        SubprocessStreamProtocol::create(self.limit.as_ref().map(|limit| limit.bind(py)), self.event_loop.bind(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.limit)?;
        visit.call(&self.event_loop)
    }
}

/// The keywords, to be changed; `first` is the parameter that may be among them.
fn keywords_of<'py>(
    py: Python<'py>,
    arguments: &CallArguments<'_, 'py>,
    first: &str,
) -> PyResult<(Option<Bound<'py, PyAny>>, Bound<'py, PyDict>)> {
    let keywords = PyDict::new(py);
    let mut value_of_first = None;
    for (key, value) in arguments.named() {
        match key.cast::<PyString>()?.to_str()? == first {
            true => value_of_first = Some(value.to_owned()),
            false => keywords.set_item(key, value)?,
        }
    }
    Ok((value_of_first, keywords))
}

/// `create_subprocess_exec`.
pub(super) struct CreateSubprocessExec;

impl AsyncFunction for CreateSubprocessExec {
    const NAME: &'static str = "create_subprocess_exec";

    const PARAMETERS: &'static str = "(program, *args, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)";

    const DOC: &'static str = "Runs a program in a child process; returns its Process.\n\n\
        `stdin`, `stdout` and `stderr` are as for subprocess.Popen: PIPE for a stream. `limit` is the longest line, in\n\
        bytes, that the streams' readline() returns. The other keywords are those of loop.subprocess_exec(), and so are\n\
        the exceptions: OSError if there is no such program.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (program, keywords) = keywords_of(py, arguments, "program")?;
        let positional = match (arguments.len(), program) {
            (0, None) => {
                let text = "create_subprocess_exec() missing 1 required positional argument: 'program'";
                return Err(PyTypeError::new_err(text));
            }
            (0, Some(program)) => vec![program],
            (_, None) => arguments.rest(0).map(|argument| argument.to_owned()).collect(),
            (_, Some(_)) => {
                let text = "create_subprocess_exec() got multiple values for argument 'program'";
                return Err(PyTypeError::new_err(text));
            }
        };
        Create::coroutine(py, Self::NAME, "subprocess_exec", positional, keywords)
    }
}

/// `create_subprocess_shell`.
pub(super) struct CreateSubprocessShell;

impl AsyncFunction for CreateSubprocessShell {
    const NAME: &'static str = "create_subprocess_shell";

    const PARAMETERS: &'static str = "(cmd, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)";

    const DOC: &'static str = "Runs a command line in a shell; returns its Process.\n\n\
        The arguments are those of create_subprocess_exec(), and of loop.subprocess_shell().";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        const NAMES: [&str; 5] = ["cmd", "stdin", "stdout", "stderr", "limit"];
        let (mut command, keywords) = keywords_of(py, arguments, "cmd")?;
        if arguments.len() > NAMES.len() {
            let given = arguments.len();
            let text =
                format!("create_subprocess_shell() takes from 1 to 5 positional arguments but {given} were given");
            return Err(PyTypeError::new_err(text));
        }
        for (name, argument) in NAMES.into_iter().zip(arguments.rest(0)) {
            let is_given_twice = match name {
                "cmd" => command.replace(argument.to_owned()).is_some(),
                _ if keywords.contains(name)? => true,
                _ => {
                    keywords.set_item(name, argument)?;
                    false
                }
            };
            if is_given_twice {
                let text = format!("create_subprocess_shell() got multiple values for argument '{name}'");
                return Err(PyTypeError::new_err(text));
            }
        }
        let Some(command) = command else {
            let text = "create_subprocess_shell() missing 1 required positional argument: 'cmd'";
            return Err(PyTypeError::new_err(text));
        };
        Create::coroutine(py, Self::NAME, "subprocess_shell", vec![command], keywords)
    }
}
