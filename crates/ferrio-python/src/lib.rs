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

    use crate::asyncio;
    use crate::coroutine::Coroutine;
    use crate::event_loop::{
        self, CallAt, CallLater, CallSoon, CallSoonThreadsafe, CreateFuture, CreateTask, SockRecv, SockSendAll,
    };
    use crate::ffi::{async_function, await_method, await_slots, finalizer, method, pool, send_slots, snapshot};
    use crate::transports::{self, SendTo, Write};
    use crate::{
        futures, graph, locks, queues, sslproto, streams, subprocess, taskgroups, tasks, threads, timeouts, wait_for,
    };

    #[pymodule_export]
    use crate::classes::_new;
    #[pymodule_export]
    use crate::event_loop::EventLoop;
    #[pymodule_export]
    use crate::futures::Future;
    #[pymodule_export]
    use crate::handles::{Handle, TimerHandle};
    #[pymodule_export]
    use crate::loop_ref::unfinished_tasks;
    #[pymodule_export]
    use crate::runners::{Runner, follow_policy, run};
    #[pymodule_export]
    use crate::sslproto::{TlsProtocol, TlsTransport};
    #[pymodule_export]
    use crate::tasks::Task;
    #[cfg(debug_assertions)]
    #[pymodule_export]
    use crate::testing::_NativeEcho;
    #[pymodule_export]
    use crate::transports::{
        DatagramTransport, ReadPipeTransport, Server, SocketTransport, SubprocessTransport, WritePipeTransport,
    };

    /// Completes the classes by what PyO3 does not offer.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
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
