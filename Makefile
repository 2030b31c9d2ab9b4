# Every target sets up what it needs. `make help` lists them.
.DELETE_ON_ERROR:
SHELL := /bin/bash
# The tests start thousands of processes: each would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := python3-venv iproute2 iptables nftables postgresql keepalived nginx-light procps \
  util-linux build-essential python3-dev libnetfilter-queue-dev clang llvm libbpf-dev linux-libc-dev
COVERAGE := build/coverage

# What the kernel's filter is built with. `make bpf BPF_OUT=FILE` builds elsewhere, to compare.
BPF_SOURCE := netfilter/farm.bpf.c
BPF_OUT := netfilter/farm.bpf.o
BPF_FLAGS := -O2 -mcpu=v3 -fno-addrsig -Wall -Wextra -Werror -Wno-unused-parameter \
  -Wno-sign-compare -target bpfel -I/usr/include/$(shell uname -m)-linux-gnu

.PHONY: help setup test unit live lint format demo demo-farm example-traces bpf bench-farm bench-farm-receive bench-failover bench-address bench-mirror bench-trace bench-sim bench-export properties sweep-farm sweep-files mutants explore coverage cells clean

help:
	@echo "make test            format, lint, types, unit tests, live tests (root for the last)"
	@echo "make lint            format, lint and types only"
	@echo "make demo            a mirror fails over, returns and swaps on this machine (root)"
	@echo "make demo-farm       three nodes share an address: drain, stop, cut, freeze (root)"
	@echo "make example-traces  record examples/traces again (root)"
	@echo "make bpf             compile the farm's filter (clang, llvm, libbpf-dev)"
	@echo "make mutants         break every rule of the protocols on purpose; each must be noticed"
	@echo "make properties      other examples for every property of the unit tests (2 minutes)"
	@echo "make explore         every run of a mirror's real cores with one disturbance (15 minutes)"
	@echo "make cells           every event in every state of both state machines (20 minutes)"
	@echo "make coverage        docs/coverage.md: which states were given which events (8 minutes)"
	@echo "make sweep-farm      100 random changes of a farm under datagrams (root; about 20 minutes)"
	@echo "make sweep-files     100 random runs of file operations on two mounts (root; about 10 minutes)"
	@echo "make bench-failover  both of the following (root; about 20 minutes)"
	@echo "make bench-address   failover time beside keepalived's (root; about 15 minutes)"
	@echo "make bench-mirror    needless takeovers, swap, restart, losses, idle (root; about 5 minutes)"
	@echo "make bench-trace     what recording costs, its size, replay (root; about 3 minutes)"
	@echo "make bench-export    merging and exporting a million records: time and memory (about 3 minutes)"
	@echo "make bench-farm      cost and evenness of the farm's filter, the next, changes and failures (root)"
	@echo "make bench-farm-receive  packets a second through each filter (root; a minute)"
	@echo "make bench-sim       speed of the simulator (2 minutes)"
	@echo "make clean           remove the virtual environment and every cache"

setup: $(STAMP)

# The packages of the live tests come first: without root those tests are skipped, and say so.
$(STAMP): setup.cfg pyproject.toml
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=""; \
	  for name in $(PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$name 2>/dev/null | grep -q 'ok installed' \
	      || missing="$$missing $$name"; \
	  done; \
	  if [ -n "$$missing" ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends $$missing; \
	  fi; \
	fi
	@if [ ! -x $(BIN)/python ]; then \
	  for python in python3 /usr/bin/python3; do \
	    $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	      2>/dev/null && break; \
	  done; \
	  $$python -m venv $(VENV); \
	fi
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A test that does not even end when its time is up takes its process with it, told with all stacks.
unit: setup
	$(BIN)/pytest -q -n 2 -m 'not live' \
	  -o faulthandler_timeout=660 -o faulthandler_exit_on_timeout=true

live: setup
	@tests/live/run $(BIN)/pytest $(VENV)/live-tests.txt

test: lint unit live

# Other examples each time: a property that fails is told with the example.
properties: setup
	$(BIN)/pytest -q -n 2 -m 'hypothesis and not live' --hypothesis-profile 'other examples'

sweep-farm: setup
	MIRRORFARM_CHANGES=100 $(BIN)/pytest -q -m live tests/live/test_farm_acceptors.py

sweep-files: setup
	MIRRORFARM_SEEDS=98 $(BIN)/pytest -q -m live tests/live/test_random_files.py

# MUTANTS="--only NAME" hunts some of them.
mutants: setup
	$(BIN)/python -m tests.mutants.scenarios
	$(BIN)/python -m tests.mutants.run $(MUTANTS)

explore: setup
	$(BIN)/python -m tests.model.search
	$(BIN)/python -m mirrorfarm.sim.explore --bound 0 --writes 2
	$(BIN)/python -m mirrorfarm.sim.explore --bound 0 --writes 1 --root joining
	$(BIN)/python -m mirrorfarm.sim.explore --bound 1 --writes 0 --kind crash --kind sever \
	  --kind crash_witness --kind lose --kind hold_up
	$(BIN)/python -m mirrorfarm.sim.explore --bound 1 --writes 0 --kind sleep
	$(BIN)/python -m mirrorfarm.sim.explore --bound 1 --writes 1 --kind crash_witness --kind lose
	$(BIN)/python -m mirrorfarm.sim.explore --bound 5 --writes 12 --walks 500

# Each case is a cluster of its own; at some steps of a phase an event is given before its effects.
cells: setup
	$(BIN)/python -m mirrorfarm.sim.cells

# A fast random mirror comes by more of its rare moments, a swarm by more kinds of trouble.
coverage: setup
	rm -rf $(COVERAGE)
	$(BIN)/mirrorfarm sim sweep --seeds 0..100 --options swarm -o $(COVERAGE)/swarm
	$(BIN)/mirrorfarm sim sweep --seeds 0..300 --options mirror -o $(COVERAGE)/mirror
	$(BIN)/python -m mirrorfarm.sim.cells --steps 0 -o $(COVERAGE)/cells.json
	$(BIN)/python -m mirrorfarm.sim.coverage --walk $(COVERAGE)/cells.json \
		$(COVERAGE)/*/results.jsonl > $(COVERAGE)/page.md
	mv $(COVERAGE)/page.md docs/coverage.md

demo: setup
	$(BIN)/python examples/mirror_on_one_machine.py

# Needed when cores decide otherwise than they did: tests/examples says so.
example-traces: setup
	rm -rf examples/traces
	$(BIN)/python examples/mirror_on_one_machine.py --plain --traces examples/traces/takeover
	$(BIN)/python examples/farm_in_namespaces.py --plain --settle 0.5 --traces examples/traces/farm

demo-farm: setup
	$(BIN)/python examples/farm_in_namespaces.py

# No debugging information: it names folders of this machine, and the loader needs none.
bpf:
	clang $(BPF_FLAGS) -c $(BPF_SOURCE) -o $(BPF_OUT)
	llvm-strip --discard-all $(BPF_OUT)

bench-failover: bench-address bench-mirror

bench-address: setup
	$(BIN)/python -m mirrorfarm.lab.bench_failover

bench-mirror: setup
	$(BIN)/python -m mirrorfarm.lab.bench_mirror

bench-trace: setup
	$(BIN)/python -m mirrorfarm.lab.bench_trace

bench-export: setup
	$(BIN)/python -m mirrorfarm.lab.bench_export

# All of them, and an error if one fails.
bench-farm: setup
	@code=0; for part in filter receive farm; do \
	  $(BIN)/python -m mirrorfarm.lab.bench_$$part || code=$$?; \
	done; exit $$code

bench-farm-receive: setup
	$(BIN)/python -m mirrorfarm.lab.bench_receive

bench-sim: setup
	$(BIN)/python -m mirrorfarm.sim.bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist *.egg-info
