"""What the tests share: loops to run on, runs that are compared, guards around each test.

* `loops`: the loops by name, single turns, threads that sleep in one
* `doors`: the ways in which a program can have ferrio
* `case`: one body run on two loops, and what is compared
* `guard`: the watchdog, and what a test may not leave behind
* `peers`: connections whose other end the test holds, protocols that record
* `socks`, `pipes`, `processes`, `tls`: the same for `sock_*`, pipes, child processes and TLS
* `streams`: readers and writers, on a transport in memory and on connections
* `scripts`: a test that needs an interpreter of its own
* `traces`: random programs of tasks, for property tests; `programs` and `primitives`: larger ones
"""
