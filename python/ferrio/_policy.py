"""The event loop policy, for programs that still choose their loop by one.

Python 3.14 deprecated policies: their public names warn when they are looked at, the private ones do not. asyncio's own
policy is the base, so what else it does (the current loop of each thread, child watchers before Python 3.14) stays.
"""

import sys

import ferrio

if sys.version_info >= (3, 14):
    from asyncio.unix_events import _DefaultEventLoopPolicy
else:
    from asyncio import DefaultEventLoopPolicy as _DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultEventLoopPolicy):
    """A policy whose loops are ferrio's."""

    _loop_factory = ferrio.EventLoop
