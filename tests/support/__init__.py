"""What the tests share: loops to run on, runs that are compared, guards around each test.

* `loops`: the loops by name, single turns, threads that sleep in one
* `case`: one body run on two loops, and what is compared
* `guard`: the watchdog, and what a test may not leave behind
* `peers`: connections whose other end the test holds, protocols that record
* `scripts`: a test that needs an interpreter of its own
"""
