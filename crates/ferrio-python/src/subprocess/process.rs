//! `Process`.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyAssertionError, PyAttributeError, PyBrokenPipeError, PyConnectionResetError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::asyncio;
use crate::classes::stands_for;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::GilCell;
use crate::ffi::method::CallArguments;
use crate::ffi::newborn;
use crate::ffi::raise::raised;
use crate::loop_ref::LoopRef;
use crate::streams::attributes;
use crate::tasks::gather_all;

/// A child process.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Process {
    transport: GilCell<Option<Py<PyAny>>>,
    protocol: GilCell<Option<Py<PyAny>>>,
    loop_object: GilCell<Option<Py<PyAny>>>,
    stdin: GilCell<Option<Py<PyAny>>>,
    stdout: GilCell<Option<Py<PyAny>>>,
    stderr: GilCell<Option<Py<PyAny>>>,
    pid: GilCell<Option<Py<PyAny>>>,
}

impl Process {
    fn uninitialized() -> Self {
        Self {
            transport: GilCell::default(),
            protocol: GilCell::default(),
            loop_object: GilCell::default(),
            stdin: GilCell::default(),
            stdout: GilCell::default(),
            stderr: GilCell::default(),
            pid: GilCell::default(),
        }
    }

    /// An object of this very class.
    pub(super) fn create<'py>(
        transport: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        loop_object: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = transport.py();
        let this = newborn::make(py, Self::uninitialized())?.into_bound(py);
        this.get().initialize(transport, protocol, loop_object)?;
        Ok(this)
    }

    fn initialize(
        &self,
        transport: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        loop_object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = transport.py();
        drop(self.transport.replace(py, Some(transport.clone().unbind())));
        drop(self.protocol.replace(py, Some(protocol.clone().unbind())));
        drop(self.loop_object.replace(py, Some(loop_object.clone().unbind())));
        for (name, place) in [
            (intern!(py, "stdin"), &self.stdin),
            (intern!(py, "stdout"), &self.stdout),
            (intern!(py, "stderr"), &self.stderr),
        ] {
            let stream = protocol.getattr(name)?;
            drop(place.replace(py, Some(stream).filter(|stream| !stream.is_none()).map(Bound::unbind)));
        }
        let pid = method0(transport, intern!(py, "get_pid"))?;
        drop(self.pid.replace(py, Some(pid.unbind())));
        Ok(())
    }

    fn transport<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        required(py, &self.transport, "_transport")
    }

    /// Calls a method of the transport.
    fn ask<'py>(&self, py: Python<'py>, method: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        method0(&self.transport(py)?, method)
    }

    /// Logs what communicate() does, in debug mode.
    fn log(this: &Bound<'_, Self>, message: &str, argument: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let loop_object = required(py, &this.get().loop_object, "_loop")?;
        if !LoopRef::new(&loop_object).debug(py)? {
            return Ok(());
        }
        let first = [PyString::new(py, message).into_any(), this.clone().into_any()];
        let arguments = PyTuple::new(py, first.into_iter().chain(argument).collect::<Vec<_>>())?;
        asyncio::logger(py)?.call_method1(intern!(py, "debug"), arguments).map(drop)
    }
}

/// # Errors
///
/// `AttributeError` if there is nothing.
fn required<'py>(py: Python<'py>, cell: &GilCell<Option<Py<PyAny>>>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    match cell.clone_ref(py) {
        Some(object) => Ok(object.into_bound(py)),
        None => Err(PyAttributeError::new_err(format!("the process has no {name}"))),
    }
}

#[pymethods]
impl Process {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(transport, protocol, loop)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::uninitialized()
    }

    fn __init__(
        &self,
        transport: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        r#loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.initialize(transport, protocol, r#loop)
    }

    /// The exit status; minus the signal's number, if a signal has ended the process; None while it runs.
    #[getter]
    fn returncode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, intern!(py, "get_returncode"))
    }

    /// Sends a signal, by its number. Raises ProcessLookupError if the process has ended.
    fn send_signal<'py>(&self, signal: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = signal.py();
        method1(&self.transport(py)?, intern!(py, "send_signal"), signal).map(drop)
    }

    /// Sends SIGTERM. Raises ProcessLookupError if the process has ended.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, intern!(py, "terminate")).map(drop)
    }

    /// Sends SIGKILL. Raises ProcessLookupError if the process has ended.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, intern!(py, "kill")).map(drop)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = slf.as_any().getattr(intern!(slf.py(), "__class__"))?.getattr(intern!(slf.py(), "__name__"))?;
        Ok(format!("<{class} {}>", required(slf.py(), &slf.get().pid, "pid")?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        [&self.transport, &self.protocol, &self.loop_object, &self.stdin, &self.stdout, &self.stderr, &self.pid]
            .into_iter()
            .try_for_each(|cell| cell.traverse(visit, |object, visit| visit.call(object)))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let (py, process) = (slf.py(), slf.get());
        drop((process.transport.take(py), process.protocol.take(py), process.loop_object.take(py)));
        drop((process.stdin.take(py), process.stdout.take(py), process.stderr.take(py)));
    }
}

attributes!(Process {
    /// The StreamWriter of the process's input; None unless that is a pipe.
    stdin: stdin, get_stdin, set_stdin;
    /// The StreamReader of the process's output; None unless that is a pipe.
    stdout: stdout, get_stdout, set_stdout;
    /// The StreamReader of the process's error output; None unless that is a pipe.
    stderr: stderr, get_stderr, set_stderr;
    /// The process's number.
    pid: pid, get_pid, set_pid;
    _transport: transport, get_transport, set_transport;
    _protocol: protocol, get_protocol, set_protocol;
    _loop: loop_object, get_loop, set_loop;
});
stands_for!(Process, process_class);

/// `Process.wait`.
pub(super) struct ProcessWait;

/// Waits for what is awaited first, and has its result.
struct Wait(Option<Py<Process>>);

impl Frame for Wait {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match self.0.take() {
            Some(process) => process.get().ask(py, intern!(py, "_wait")).map(Next::Await),
            None => outcome.map(Next::Return),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

impl AsyncFunction for ProcessWait {
    const NAME: &'static str = "Process.wait";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits until the process has ended; returns its `returncode`.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (process, _) = arguments.method::<Process, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Wait(Some(process.to_owned().unbind())))
    }
}

/// `Process._feed_stdin`.
pub(super) struct ProcessFeedStdin;

struct FeedStdin {
    process: Py<Process>,
    input: Option<Py<PyAny>>,
    begun: bool,
}

impl FeedStdin {
    fn write<'py>(&self, this: &Bound<'py, Process>, stdin: &Bound<'py, PyAny>) -> PyResult<Next<'py>> {
        let py = this.py();
        if let Some(input) = &self.input {
            let input = input.bind(py);
            method1(stdin, intern!(py, "write"), input)?;
            let length = input.len()?.into_pyobject(py)?.into_any();
            Process::log(this, "%r communicate: feed stdin (%s bytes)", Some(length))?;
        }
        method0(stdin, intern!(py, "drain")).map(Next::Await)
    }
}

impl Frame for FeedStdin {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.process.bind(py);
        let stdin = required(py, &this.get().stdin, "stdin")?;
        let fed = match std::mem::replace(&mut self.begun, true) {
            false => match self.write(this, &stdin) {
                Ok(drains) => return Ok(drains),
                Err(error) => Err(error),
            },
            true => outcome.map(drop),
        };
        if let Err(error) = fed {
            // A process need not read all of its input.
            if !error.is_instance_of::<PyBrokenPipeError>(py) && !error.is_instance_of::<PyConnectionResetError>(py) {
                return Err(error);
            }
            Process::log(this, "%r communicate: stdin got %r", Some(raised(py, error).into_any()))?;
        }
        Process::log(this, "%r communicate: close stdin", None)?;
        method0(&stdin, intern!(py, "close"))?;
        Ok(Next::Return(py.None().into_bound(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.process)?;
        visit.call(&self.input)
    }
}

impl AsyncFunction for ProcessFeedStdin {
    const NAME: &'static str = "Process._feed_stdin";

    const PARAMETERS: &'static str = "(self, input)";

    const DOC: &'static str = "Writes `input` to the process, and closes its input.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (process, [_, input]) = arguments.method::<Process, 2>(Self::NAME, ["self", "input"])?;
        let input = Some(input.to_owned()).filter(|input| !input.is_none()).map(Bound::unbind);
        Coroutine::of(py, Self::NAME, FeedStdin { process: process.to_owned().unbind(), input, begun: false })
    }
}

/// `Process._read_stream`.
pub(super) struct ProcessReadStream;

struct ReadStream {
    process: Py<Process>,
    fd: i32,
    /// Once reading has begun.
    transport: Option<Py<PyAny>>,
}

impl ReadStream {
    fn log(&self, this: &Bound<'_, Process>, message: &str) -> PyResult<()> {
        let name = if self.fd == 1 { "stdout" } else { "stderr" };
        Process::log(this, message, Some(PyString::new(this.py(), name).into_any()))
    }
}

impl Frame for ReadStream {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.process.bind(py);
        let output = outcome?;
        if let Some(transport) = self.transport.take() {
            self.log(this, "%r communicate: close %s")?;
            method0(transport.bind(py), intern!(py, "close"))?;
            return Ok(Next::Return(output));
        }
        let fd = self.fd.into_pyobject(py)?;
        let transport = method1(&this.get().transport(py)?, intern!(py, "get_pipe_transport"), fd.as_any())?;
        let (stream, name) = match self.fd {
            2 => (&this.get().stderr, "stderr"),
            1 => (&this.get().stdout, "stdout"),
            _ => return Err(PyAssertionError::new_err(())),
        };
        self.log(this, "%r communicate: read %s")?;
        let reading = method0(&required(py, stream, name)?, intern!(py, "read"))?;
        self.transport = Some(transport.unbind());
        Ok(Next::Await(reading))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.process)?;
        visit.call(&self.transport)
    }
}

impl AsyncFunction for ProcessReadStream {
    const NAME: &'static str = "Process._read_stream";

    const PARAMETERS: &'static str = "(self, fd)";

    const DOC: &'static str = "Reads an output of the process, 1 or 2, up to its end, and closes it.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (process, [_, fd]) = arguments.method::<Process, 2>(Self::NAME, ["self", "fd"])?;
        let frame = ReadStream { process: process.to_owned().unbind(), fd: fd.extract()?, transport: None };
        Coroutine::of(py, Self::NAME, frame)
    }
}

/// `Process.communicate`.
pub(super) struct ProcessCommunicate;

struct Communicate {
    process: Py<Process>,
    stage: Stage,
}

enum Stage {
    /// With the input, or None.
    Begins(Py<PyAny>),
    /// The pipes that there are, of the three.
    Transfers([bool; 3]),
    /// With what is to be returned.
    Waits(Py<PyAny>),
}

impl Communicate {
    /// Begins with all pipes at once.
    fn begin<'py>(this: &Bound<'py, Process>, input: &Bound<'py, PyAny>) -> PyResult<([bool; 3], Bound<'py, PyAny>)> {
        let (py, process) = (this.py(), this.get());
        let pipes = [&process.stdin, &process.stdout, &process.stderr];
        let pipes = pipes.map(|pipe| pipe.with(py, |pipe| pipe.is_some()));
        let mut transfers = Vec::new();
        if pipes[0] {
            transfers.push(method1(this.as_any(), intern!(py, "_feed_stdin"), input)?);
        }
        for fd in [1, 2] {
            if pipes[fd] {
                transfers.push(method1(this.as_any(), intern!(py, "_read_stream"), fd.into_pyobject(py)?.as_any())?);
            }
        }
        Ok((pipes, gather_all(&PyTuple::new(py, transfers)?, false)?))
    }
}

impl Frame for Communicate {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let outcome = outcome?;
        let this = self.process.bind(py);
        match &self.stage {
            Stage::Begins(input) => {
                let (pipes, transfers) = Self::begin(this, input.bind(py))?;
                self.stage = Stage::Transfers(pipes);
                Ok(Next::Await(transfers))
            }
            Stage::Transfers(pipes) => {
                let mut results = outcome.try_iter()?;
                let [_, stdout, stderr] =
                    pipes.map(|exists| if exists { results.next().transpose() } else { Ok(None) });
                let outputs = (stdout?, stderr?).into_pyobject(py)?.into_any();
                let waiting = method0(this.as_any(), intern!(py, "wait"))?;
                self.stage = Stage::Waits(outputs.unbind());
                Ok(Next::Await(waiting))
            }
            Stage::Waits(outputs) => Ok(Next::Return(outputs.bind(py).clone())),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.process)?;
        match &self.stage {
            Stage::Begins(object) | Stage::Waits(object) => visit.call(object),
            Stage::Transfers(_) => Ok(()),
        }
    }
}

impl AsyncFunction for ProcessCommunicate {
    const NAME: &'static str = "Process.communicate";

    const PARAMETERS: &'static str = "(self, input=None)";

    const DOC: &'static str = "Writes `input` to the process, reads all of its output, and waits for its end.\n\n\
        Returns what came from stdout and from stderr: bytes, or None for one that is no pipe. What a communicate() that\n\
        is cancelled has read stays to be read.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [process, input] = arguments.bind(Self::NAME, ["self", "input"], 1, 2)?;
        let Some(process) = process else { return Err(PyAssertionError::new_err("a method without its object")) };
        let process = process.to_owned().cast_into::<Process>()?.unbind();
        let input = input.map_or_else(|| py.None(), |input| input.to_owned().unbind());
        Coroutine::of(py, Self::NAME, Communicate { process, stage: Stage::Begins(input) })
    }
}
