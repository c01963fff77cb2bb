#!/bin/sh
# Prints the newest released CPython from 3.11 to 3.15 on the PATH.
check='import sys
v = sys.version_info
sys.exit(not ((3, 11) <= v[:2] <= (3, 15) and v.releaselevel == "final" and sys.implementation.name == "cpython"))'
for name in python3.15 python3.14 python3.13 python3.12 python3.11 python3; do
  # What the PATH has can be a version manager's stub for an interpreter that is not there: only running it tells.
  if "$name" -c "$check" 2>/dev/null; then
    "$name" -c 'import sys; print(sys.executable)'
    exit
  fi
done
echo "no CPython from 3.11 to 3.15 on the PATH; name one: make PYTHON=/path/to/python3.14 ..." >&2
exit 1
