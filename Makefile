# What a machine needs for this: cargo, a CPython from 3.11 to 3.15, make, a C compiler. All that is made stays below this
# directory: environments in .venv/, builds in target/. PYTHON names the interpreter: make PYTHON=python3.14 test

.DEFAULT_GOAL := help
.NOTPARALLEL:

ifndef PYTHON
PYTHON := $(shell tools/find-python.sh)
endif
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error PYTHON=$(PYTHON) is no interpreter that works)
endif

VENV := $(CURDIR)/.venv/$(VERSION)
PY := $(VENV)/bin/python
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# What PyO3 builds for. Every cargo command has the same, so that none undoes another's work.
export PYO3_PYTHON := $(PY)

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

demo: $(PY) ## the notebook's cells on ferrio, then a comparison with asyncio
	cargo build --release -p ferrio-python
	@$(call install,release)
	$(PY) examples/notebook.py
	$(PY) examples/side_by_side.py

test: lint test-rust test-python conformance ## everything that must pass

lint: $(VENV)/.tools ## rustfmt, clippy, ruff, rustdoc
	@for tool in fmt clippy; do cargo $$tool --version >/dev/null 2>&1 || { \
	  echo "cargo $$tool is missing: rustup component add rustfmt clippy (Debian: apt install rustfmt rust-clippy)" >&2; \
	  exit 1; }; done
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	RUSTDOCFLAGS="-D warnings" cargo doc -q --workspace --no-deps --document-private-items

format: $(VENV)/.tools ## rustfmt and ruff
	cargo fmt --all
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

test-rust: $(PY) ## cargo test, and loom
	cargo test --workspace
	RUSTFLAGS="--cfg loom" cargo test -p ferrio --test loom --release --target-dir $(TARGET)/loom

develop: $(VENV)/.tools ## .venv/VERSION with a debug build, for working on ferrio
	cargo build -p ferrio-python
	@$(call install,debug)

# The layer test and stubtest are among these. ARGS goes to pytest.
test-python: develop ## pytest; ARGS='-k timers'
	$(PY) -m pytest $(ARGS)

conformance: develop ## asyncio's own tests, on ferrio; ARGS='--module test_tasks'
	$(PY) tests/conformance/run.py $(ARGS)

ecosystem: develop ## other projects' tests, on asyncio and on ferrio; NAMES picks some
	$(PY) tests/ecosystem/run.py $(NAMES)

# The wheel is what users get, so it is what is measured. ROWS, LOOPS, ROUNDS: see benches/README.md.
bench: $(VENV)/.tools ## ferrio beside its peers
	rm -rf $(TARGET)/wheels
	$(VENV)/bin/maturin build --release --locked --interpreter $(PY) --out $(TARGET)/wheels
	python=$$(benches/setup.sh $(PY)) && \
	tools/pip.sh $$python install -q --force-reinstall --no-deps $(TARGET)/wheels/*.whl && \
	$$python benches/run.py

# Not part of the tests: they take minutes, or another compiler.
SECONDS = 120
soak: develop ## minutes of mixed load with random faults; SECONDS=600 ARGS='--seed 7'
	$(PY) tests/soak/soak.py --seconds $(SECONDS) $(ARGS)

HANDSHAKES = 50000
handshakes: develop ## 50,000 TLS handshakes: memory is flat; HANDSHAKES=5000
	$(PY) tests/soak/handshakes.py --handshakes $(HANDSHAKES)

# It wants an interpreter of which valgrind has nothing to say by itself, such as Debian's: make PYTHON=/usr/bin/python3 memcheck.
# Without leaks, as what an interpreter holds when it ends is no news, and without what needs gigabytes. Without
# test_out_of_descriptors of servers: valgrind keeps the limit of descriptors by itself, and closes the connection that was
# accepted beyond it, where the kernel leaves it in the queue.
MEMCHECK = $(addprefix tests/parity/test_,transport*.py connections.py servers.py sock*.py datagrams.py pipe*.py sendfile.py \
  stream*.py tls.py tls_closing.py tls_flow.py tls_protocols.py tls_streams.py) \
  tests/test_deferred_sends.py
MEMCHECK_OPTIONS = --only module -k "not two_gib" --deselect tests/parity/test_servers.py::test_out_of_descriptors
memcheck: develop ## the Python tests of the transports under valgrind
	FERRIO_SLOWDOWN=50 PYTHONMALLOC=malloc valgrind --error-exitcode=99 --leak-check=no --num-callers=30 \
	  --suppressions=tests/memcheck/glibc.supp --suppressions=tests/memcheck/cpython.supp $(PY) -m pytest -q -p no:cacheprovider $(MEMCHECK_OPTIONS) $(or $(ARGS),$(MEMCHECK))

# `cargo install cargo-fuzz` first. TARGET is one of crates/ferrio/fuzz/fuzz_targets.
fuzz: ## cargo-fuzz on the engine's buffers; TARGET=separators SECONDS=600
	cd crates/ferrio/fuzz && for target in $(or $(TARGET),write_buffer read_buffer separators); do \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . $$target -- -max_total_time=$(SECONDS) || exit 1; done

# `rustup component add --toolchain nightly miri rust-src` first. What miri can run: it knows no level-triggered epoll, no ioctl
# on sockets and no processes. Leaks are not counted, as a panic's payload whose destructor may panic is forgotten on purpose.
MIRI = --lib $(addprefix --test ,blocking run task task_group time timeout wakers)
miri: ## the engine's tasks and threads under miri; SEEDS=0..16
	MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks $(if $(SEEDS),-Zmiri-many-seeds=$(SEEDS))" \
	  cargo +nightly miri test -p ferrio --target-dir $(TARGET)/miri $(MIRI) -- --skip burst $(ARGS)

clean: ## removes everything that was made
	rm -rf .venv $(TARGET) python/ferrio/*.so

# The package is imported from python/, with the extension beside it. A process that has the old file open keeps it.
install = rm -f $(EXTENSION) && cp $(TARGET)/$(1)/lib_ferrio.so $(EXTENSION)
EXTENSION = python/ferrio/_ferrio$(shell $(PY) -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')

$(PY):
	$(PYTHON) -m venv --without-pip $(VENV)
	echo '$(CURDIR)/python' >"$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ferrio.pth"

$(VENV)/.tools: pyproject.toml | $(PY)
	tools/pip.sh $(PY) install -q --group dev
	touch $@

.PHONY: help demo test lint format test-rust develop test-python conformance ecosystem bench soak handshakes memcheck fuzz miri clean
