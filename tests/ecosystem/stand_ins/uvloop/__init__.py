"""asyncio's loop under uvloop's names, so that uvloop's tests run on it, and on ferrio where that is installed."""

import asyncio
from asyncio import DefaultEventLoopPolicy as EventLoopPolicy, EventLoop as Loop, new_event_loop, run

# Taken from uvloop's source distribution.
from uvloop import _testbase

__all__ = ("EventLoopPolicy", "Loop", "new_event_loop", "run")

# What its tests expect where uvloop and asyncio differ.
_testbase.UVTestCase.implementation = asyncio.__name__
