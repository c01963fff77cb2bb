//! Child processes.

use pyo3::exceptions::{PyGeneratorExit, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::EventLoop;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::call::call0;
use crate::transports::{NewSubprocess, SubprocessTransport};

#[pymethods]
impl EventLoop {
    /// Runs `program` with the arguments `args` in a child process; returns the transport and the protocol that
    /// `protocol_factory()` made, an asyncio.SubprocessProtocol.
    ///
    /// `stdin`, `stdout` and `stderr` are pipes unless they are given, as to `subprocess.Popen`, which takes the other
    /// keywords. Raises OSError if there is no such program, ValueError for keywords that are about text.
    #[pyo3(
        signature = (protocol_factory, program, *args, **kwargs),
        text_signature = "($self, protocol_factory, program, *args, stdin=-1, stdout=-1, stderr=-1, \
            universal_newlines=False, shell=False, bufsize=0, encoding=None, errors=None, text=None, **kwargs)"
    )]
    fn subprocess_exec<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        program: Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let py = slf.py();
        let event_loop = WeakLoop::new(slf)?;
        let arguments = PyTuple::new(py, std::iter::once(program).chain(args.iter()).collect::<Vec<_>>())?;
        let command = Command::new(arguments.into_any(), kwargs, false);
        Coroutine::new(
            py,
            "BaseEventLoop.subprocess_exec",
            async move { run(&event_loop, protocol_factory, command).await },
        )
    }

    /// Runs the shell command `cmd`, as `subprocess_exec` runs a program. Raises ValueError if it is not a string or
    /// bytes.
    #[pyo3(
        signature = (protocol_factory, cmd, **kwargs),
        text_signature = "($self, protocol_factory, cmd, *, stdin=-1, stdout=-1, stderr=-1, \
            universal_newlines=False, shell=True, bufsize=0, encoding=None, errors=None, text=None, **kwargs)"
    )]
    fn subprocess_shell<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        cmd: Bound<'py, PyAny>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        let command = Command::new(cmd, kwargs, true);
        Coroutine::new(slf.py(), "BaseEventLoop.subprocess_shell", async move {
            run(&event_loop, protocol_factory, command).await
        })
    }
}

async fn run(event_loop: &WeakLoop, factory: Py<PyAny>, command: Command) -> PyResult<Py<PyAny>> {
    let (transport, protocol, beginning, shown) = Python::attach(|py| {
        command.check(py)?;
        let this = event_loop.get(py)?;
        let protocol = call0(factory.bind(py))?;
        let shown = match this.as_super().get().debug.get(py) {
            true => Some(command.log(py)?),
            false => None,
        };
        let (transport, beginning) = SubprocessTransport::spawn(NewSubprocess {
            core: this.as_super(),
            protocol: protocol.clone(),
            arguments: command.arguments.bind(py),
            keywords: command.keywords.bind(py),
        })?;
        PyResult::Ok((transport.unbind(), protocol.unbind(), beginning.into_any().unbind(), shown))
    })?;
    if let Err(error) = await_(beginning).await {
        // Not before the process has ended, unless there is no waiting any more.
        let exit = Python::attach(|py| {
            let transport = transport.bind(py);
            SubprocessTransport::close(transport)?;
            let waits = !asyncio::leaves_the_loop(py, &error) && !error.is_instance_of::<PyGeneratorExit>(py);
            waits.then(|| SubprocessTransport::wait(transport)).transpose().map(|exit| exit.map(Bound::unbind))
        })?;
        if let Some(exit) = exit {
            await_(exit.into_any()).await?;
        }
        return Err(error);
    }
    Python::attach(|py| {
        if let Some(shown) = shown {
            asyncio::logger(py)?.call_method1(intern!(py, "info"), ("%s: %r", shown, &transport))?;
        }
        Ok((transport, protocol).into_pyobject(py)?.into_any().unbind())
    })
}

/// What is to be run, and how.
struct Command {
    /// A tuple, or the command line of a shell.
    arguments: Py<PyAny>,
    /// `Popen`'s.
    keywords: Py<PyDict>,
    is_shells: bool,
}

/// As `subprocess.PIPE` has it.
const PIPE: i32 = -1;
/// As `subprocess.STDOUT` has it.
const STDOUT: i32 = -2;

impl Command {
    fn new(arguments: Bound<'_, PyAny>, keywords: Option<Bound<'_, PyDict>>, is_shells: bool) -> Self {
        // The interpreter makes a new dictionary for every call.
        let keywords = keywords.unwrap_or_else(|| PyDict::new(arguments.py()));
        Self { arguments: arguments.unbind(), keywords: keywords.unbind(), is_shells }
    }

    /// Completes the keywords.
    ///
    /// # Errors
    ///
    /// `ValueError` for what a transport of bytes cannot have.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        let keywords = self.keywords.bind(py);
        let arguments = self.arguments.bind(py);
        let refuse = |text: &'static str| Err(PyValueError::new_err(text));
        if self.is_shells && !arguments.is_instance_of::<PyString>() && !arguments.is_instance_of::<PyBytes>() {
            return refuse("cmd must be a string");
        }
        let is_set = |name| keywords.get_item(name)?.map_or(Ok(false), |value| value.is_truthy());
        if is_set("universal_newlines")? {
            return refuse("universal_newlines must be False");
        }
        match (self.is_shells, keywords.get_item("shell")?) {
            (false, Some(shell)) if shell.is_truthy()? => return refuse("shell must be False"),
            (true, Some(shell)) if !shell.is_truthy()? => return refuse("shell must be True"),
            _ => keywords.set_item(intern!(py, "shell"), self.is_shells)?,
        }
        match keywords.get_item("bufsize")? {
            Some(bufsize) if bufsize.ne(0)? => return refuse("bufsize must be 0"),
            _ => keywords.set_item(intern!(py, "bufsize"), 0)?,
        }
        if is_set("text")? {
            return refuse("text must be False");
        }
        for (name, text) in [("encoding", "encoding must be None"), ("errors", "errors must be None")] {
            if keywords.get_item(name)?.is_some_and(|value| !value.is_none()) {
                return refuse(text);
            }
        }
        for name in [intern!(py, "stdin"), intern!(py, "stdout"), intern!(py, "stderr")] {
            if !keywords.contains(name)? {
                keywords.set_item(name, PIPE)?;
            }
        }
        Ok(())
    }

    /// Logs what is about to be run, without the arguments, which may be secrets; returns how it was named.
    fn log(&self, py: Python<'_>) -> PyResult<String> {
        let arguments = self.arguments.bind(py);
        let name = match self.is_shells {
            true => format!("run shell command {}", arguments.repr()?),
            false => format!("execute program {}", arguments.get_item(0)?.repr()?),
        };
        let mut words = vec![name.clone()];
        let keywords = self.keywords.bind(py);
        let stream = |name| keywords.get_item(name).map(|stream| stream.filter(|stream| !stream.is_none()));
        let (stdout, stderr) = (stream("stdout")?, stream("stderr")?);
        let is_joined = match (&stdout, &stderr) {
            (Some(_), Some(stderr)) => stderr.eq(STDOUT)?,
            _ => false,
        };
        let streams = match is_joined {
            true => [("stdin", stream("stdin")?), ("stdout=stderr", stdout), ("", None)],
            false => [("stdin", stream("stdin")?), ("stdout", stdout), ("stderr", stderr)],
        };
        for (name, stream) in streams {
            if let Some(stream) = stream {
                words.push(format!("{name}={}", shown(&stream)?));
            }
        }
        asyncio::logger(py)?.call_method1(intern!(py, "debug"), (words.join(" "),))?;
        Ok(name)
    }
}

fn shown(stream: &Bound<'_, PyAny>) -> PyResult<String> {
    if stream.eq(PIPE)? {
        return Ok("<pipe>".to_owned());
    }
    if stream.eq(STDOUT)? { Ok("<stdout>".to_owned()) } else { Ok(stream.repr()?.to_string()) }
}
