//! The extension module `ferrio._ferrio`: asyncio's objects on ferrio's engine.

mod asyncio;
mod classes;
mod contexts;
mod convert;
mod coroutine;
mod current;
mod descriptors;
mod event_loop;
mod ffi;
mod futures;
mod graph;
mod handles;
mod locks;
mod loop_ref;
mod os_error;
mod queues;
mod runners;
mod sslproto;
mod streams;
mod subprocess;
mod taskgroups;
mod tasks;
#[cfg(debug_assertions)]
mod testing;
mod threads;
mod timeouts;
mod transports;
mod wait_for;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod _ferrio {
    use pyo3::prelude::*;
    use pyo3::sync::PyOnceLock;
    use pyo3::wrap_pyfunction;

    use crate::asyncio;
    use crate::classes::_new;
    use crate::coroutine::Coroutine;
    use crate::event_loop::{
        self, CallAt, CallLater, CallSoon, CallSoonThreadsafe, CreateFuture, CreateTask, EventLoop, SockRecv,
        SockSendAll,
    };
    use crate::ffi::{
        async_function, await_method, await_slots, finalizer, interpreter, method, pool, send_slots, snapshot,
    };
    use crate::futures::Future;
    use crate::handles::{Handle, TimerHandle};
    use crate::loop_ref::unfinished_tasks;
    use crate::runners::{Runner, follow_policy, run};
    use crate::sslproto::{TlsProtocol, TlsTransport};
    use crate::tasks::Task;
    #[cfg(debug_assertions)]
    use crate::testing::{_NativeEcho, _defer_sends};
    use crate::transports::{
        self, DatagramTransport, ReadPipeTransport, SendTo, Server, SocketTransport, SubprocessTransport, Write,
        WritePipeTransport,
    };
    use crate::{
        futures, graph, locks, queues, sslproto, streams, subprocess, taskgroups, tasks, threads, timeouts, wait_for,
    };

    /// Fills the module, by hand and not by exports: those come before the interpreter is looked at.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        static FIRST: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
        let py = module.py();
        interpreter::check_main(py)?;
        // A program that has taken us out of sys.modules, as tests do that clean up, imports us again. The classes are
        // those that there are.
        if let Some(first) = FIRST.get(py) {
            return module.dict().update(first.bind(py).dict().as_mapping());
        }
        export(module)?;
        complete(module)?;
        let _ = FIRST.set(py, module.clone().unbind());
        Ok(())
    }

    fn export(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add_class::<EventLoop>()?;
        module.add_class::<Future>()?;
        module.add_class::<Task>()?;
        module.add_class::<Handle>()?;
        module.add_class::<TimerHandle>()?;
        module.add_class::<Runner>()?;
        module.add_class::<TlsProtocol>()?;
        module.add_class::<TlsTransport>()?;
        module.add_class::<SocketTransport>()?;
        module.add_class::<DatagramTransport>()?;
        module.add_class::<ReadPipeTransport>()?;
        module.add_class::<WritePipeTransport>()?;
        module.add_class::<SubprocessTransport>()?;
        module.add_class::<Server>()?;
        #[cfg(debug_assertions)]
        module.add_class::<_NativeEcho>()?;
        #[cfg(debug_assertions)]
        module.add_function(wrap_pyfunction!(_defer_sends, module)?)?;
        module.add_function(wrap_pyfunction!(_new, module)?)?;
        module.add_function(wrap_pyfunction!(unfinished_tasks, module)?)?;
        module.add_function(wrap_pyfunction!(follow_policy, module)?)?;
        module.add_function(wrap_pyfunction!(run, module)?)
    }

    /// Completes the classes by what PyO3 does not offer, and adds what the rooms have to add.
    fn complete(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        asyncio::remember(py)?;
        await_method::iterate_by_hand::<Future>(py)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        snapshot::check_layout(py)?;
        pool::install::<Handle>(py);
        pool::install::<TimerHandle>(py);
        pool::install::<Future>(py);
        pool::install::<Task>(py);
        await_slots::install::<Future, Future>(py);
        await_slots::install::<Future, Task>(py);
        futures::install(py)?;
        tasks::add(module)?;
        timeouts::add(module)?;
        wait_for::add(module)?;
        taskgroups::add(module)?;
        threads::add(module)?;
        graph::add(module)?;
        method::install::<CallSoon>(py)?;
        method::install::<CallSoonThreadsafe>(py)?;
        method::install::<CallLater>(py)?;
        method::install::<CallAt>(py)?;
        method::install::<CreateFuture>(py)?;
        method::install::<CreateTask>(py)?;
        method::install::<SockRecv>(py)?;
        method::install::<SockSendAll>(py)?;
        pool::install::<Coroutine>(py);
        send_slots::install::<Coroutine>(py);
        finalizer::install::<Future>(py)?;
        finalizer::install::<Task>(py)?;
        finalizer::install::<Coroutine>(py)?;
        finalizer::install_with_deallocator::<EventLoop>(py)?;
        finalizer::install_with_deallocator::<SocketTransport>(py)?;
        finalizer::install_with_deallocator::<DatagramTransport>(py)?;
        finalizer::install_with_deallocator::<ReadPipeTransport>(py)?;
        finalizer::install_with_deallocator::<WritePipeTransport>(py)?;
        finalizer::install_with_deallocator::<SubprocessTransport>(py)?;
        finalizer::install_with_deallocator::<TlsTransport>(py)?;
        method::install::<Write>(py)?;
        method::install::<sslproto::Write>(py)?;
        sslproto::install(py);
        method::install::<SendTo>(py)?;
        event_loop::install(py)?;
        transports::install(py)?;
        locks::add(module)?;
        queues::add(module)?;
        streams::add(module)?;
        subprocess::add(module)?;
        async_function::promote(&py.get_type::<EventLoop>(), EventLoop::COROUTINE_FUNCTIONS)?;
        async_function::promote(&py.get_type::<Server>(), Server::COROUTINE_FUNCTIONS)
    }
}
