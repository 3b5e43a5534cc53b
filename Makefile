# Everything a newcomer needs: `make demo` and `make test` set up what is missing by themselves.
# They need python3 (3.11 to 3.13) and, to install Debian packages, root.

PYTHON ?= python3
VENV := .venv
# Most tests wait for real brokers and processes, so more of them than cores run at once.
PARALLEL ?= 4
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# Debian packages, each with the program by which we know that it is there.
PACKAGES := rabbitmq-server:/usr/lib/rabbitmq/bin/rabbitmq-server

.DEFAULT_GOAL := help
.PHONY: help install system demo test check format unit integration e2e soak benchmark clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) system ## set up the virtual environment and the Debian packages

demo: install ## boot the sleeper, kill a node, grow and shrink, tear down with a receipt (2 min)
	@$(BIN)/python -m mgmt.cli demo

test: install ## run all tests that a machine without a cloud can run (about 12 min on two cores)
	@$(BIN)/python -m pytest --numprocesses $(PARALLEL) --dist loadfile

check: $(READY) ## formatting, lint, types, house rules and packaging (under 60 s)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py tests/test_packaging.py

unit: $(READY) ## only the tests that need no broker
	@$(BIN)/python -m pytest tests/unit tests/contract tests/interrupted

integration: install ## only the tests against a real broker and real processes
	@$(BIN)/python -m pytest tests/integration

e2e: install ## only the tests that boot a whole system
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/e2e

soak: install ## the long tests: a broker away for ten minutes (about 15 min)
	@$(BIN)/python -m pytest -m soak --timeout=1800

test-vm: install ## boot real virtual machines that become workers (10 min the first time, then 6)
	@$(BIN)/python -m pytest -m vm --timeout=3600 tests/vm

SEEDS ?= 10000
FROM ?= 0
.PHONY: simulate
simulate: $(READY) ## live 10,000 simulated histories (SEEDS=, FROM=; two hours at most)
	@$(BIN)/python -m coordinator.simulation --seeds $(SEEDS) --from $(FROM)

benchmark: install ## measure memory, CPU, reaction times; prints the figures
	@$(BIN)/python -m benchmarks.footprint
	@$(BIN)/python -m benchmarks.provisioner
	@$(BIN)/python -m benchmarks.commands
	@$(BIN)/python -m benchmarks.control_cycle
	@$(BIN)/python -m benchmarks.trace_simulation

format: $(READY) ## let ruff format and fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove what building and testing left behind, the virtual environment too
	rm -rf $(VENV) .run .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

$(READY): setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || tools/install-package python3
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "EPU needs Python 3.11 to 3.13; set PYTHON=…"; exit 1; }
	@echo "Setting up a virtual environment in $(VENV) (once) …"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tools/install-package python3-venv
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	@touch $@

system:
	@for entry in $(PACKAGES); do \
	  test -x "$${entry#*:}" || tools/install-package "$${entry%%:*}" || exit 1; \
	done

# Servers that only tests want. Where they can't be installed those tests are skipped, and say so.
TEST_PACKAGES := postgresql:/usr/lib/postgresql/*/bin/postgres openssh-server:/usr/sbin/sshd \
  cloud-init:/usr/bin/cloud-init \
  qemu-system-x86:/usr/bin/qemu-system-x86_64 qemu-utils:/usr/bin/qemu-img \
  genisoimage:/usr/bin/genisoimage iproute2:/sbin/ip
VM_PACKAGES := mmdebstrap:/usr/bin/mmdebstrap e2fsprogs:/sbin/mke2fs
.PHONY: test-servers test-vm
test-vm: TEST_PACKAGES += $(VM_PACKAGES)
test integration test-vm: test-servers
test-servers:
	@for entry in $(TEST_PACKAGES); do \
	  ls $${entry#*:} >/dev/null 2>&1 || tools/install-package "$${entry%%:*}" || true; \
	done
