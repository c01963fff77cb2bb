#!/usr/bin/env bash
# Makes the environment of the benchmarks, .venv/bench-VERSION: the peers from the package index, the programs of native/.
#   usage: benches/setup.sh [PYTHON]
# Prints the path of the environment's Python as the only line on standard output. Running it again is quick.
# ferrio itself is not installed here. Whoever calls does that, into the environment, between setup.sh and run.py:
#   python=$(benches/setup.sh "$PYTHON")
#   VIRTUAL_ENV=$(dirname "$(dirname "$python")") maturin develop --release
#   "$python" benches/run.py
# Peers come as wheels. One that has none for this Python is left out with a word; FROM_SOURCE=1 tries to build it.
set -euo pipefail

python=${1:-python3}
here=$(cd "$(dirname "$0")" && pwd)
peers=(uvloop rloop rsloop zuvloop veloxloop aiofastnet)
version=$("$python" -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], getattr(sys, "abiflags", "")))')
env=${here%/*}/.venv/bench-$version

say() { echo "benches/setup.sh: $*" >&2; }

# The interpreter may come without pip, and a pip that came with another one may be too old to run on this one. So whatever
# pip is around fetches the current pip, into a folder of its own, and that one does the rest.
fetch_pip() {
  local candidate
  for candidate in "$python" python3 python /usr/bin/python3; do
    if "$candidate" -m pip install --quiet --disable-pip-version-check --target "$env/pip" pip 2>/dev/null >&2; then return; fi
  done
  say "no Python with a pip that works (tried $python, python3, python)"
  return 1
}

install() {
  local only=(--only-binary :all:)
  [[ -z ${FROM_SOURCE:-} ]] || only=()
  PYTHONPATH=$env/pip "$env/bin/python" -m pip install --quiet --disable-pip-version-check "${only[@]}" "$1"
}

[[ -x $env/bin/python ]] || "$python" -m venv --without-pip "$env"

[[ -d $env/pip ]] || fetch_pip
for peer in "${peers[@]}"; do
  if "$env/bin/python" -c "import $peer" 2>/dev/null; then continue; fi
  say "installing $peer"
  if ! errors=$(install "$peer" 2>&1); then
    say "left out: $peer ($(grep -m 1 ERROR <<<"$errors" || tail -n 1 <<<"$errors"))"
  fi
done

mkdir -p "$env/native"
for source in "$here"/native/*.c; do
  program=$env/native/$(basename "$source" .c)
  if [[ $source -nt $program ]]; then ${CC:-cc} -O2 -Wall -Wextra -o "$program" "$source"; fi
  if [[ $source -nt ${program}_tls || $here/native/records.h -nt ${program}_tls ]] &&
    ! ${CC:-cc} -O2 -Wall -Wextra -DTLS -o "${program}_tls" "$source" -lssl -lcrypto 2>"$env/native/errors"; then
    say "no rows with TLS: $(grep -m 1 error "$env/native/errors") (Debian: apt install libssl-dev)"
  fi
done

echo "$env/bin/python"
