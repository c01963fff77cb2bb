#!/bin/sh
# pip for an interpreter that may have none.   usage: tools/pip.sh PYTHON install ...
#
# Debian's interpreters come without pip and ensurepip, and an old pip does not run on a new Python. So a current pip is
# kept as plain files in .venv/pip, which any interpreter can import; whoever on this machine has a pip fetches it once.
set -eu
python=$1
shift
pip=$(cd "$(dirname "$0")/.." && pwd)/.venv/pip

fetch() {
  PIP_ROOT_USER_ACTION=ignore "$1" -m pip --disable-pip-version-check install -q --no-deps --target "$pip.new" 'pip>=25.1'
}

if [ ! -e "$pip" ]; then
  rm -rf "$pip.new" "$pip.venv"
  for other in "$python" python3 python3.15 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if "$other" -m pip --version >/dev/null 2>&1; then
      fetch "$other"
    elif "$other" -m venv "$pip.venv" >/dev/null 2>&1; then
      fetch "$pip.venv/bin/python"
    fi
    rm -rf "$pip.venv"
    if [ -d "$pip.new" ]; then break; fi
  done
  if [ ! -d "$pip.new" ]; then
    echo "no interpreter on the PATH has pip or ensurepip: install one of them (Debian: python3-pip or python3-venv)" >&2
    exit 1
  fi
  mv "$pip.new" "$pip"
fi
PYTHONPATH=$pip exec "$python" -m pip --disable-pip-version-check --no-input "$@"
