# meter-gateway: `make demo` and `make test` do all their own set-up on Debian 12 with Python 3.11, git and make.
SHELL := /bin/bash
PY := .venv/bin/python
SETUP := deploy/setup.sh

# Tests that need a program beside Python; `make check` leaves them and the longest out (markers in pyproject.toml).
ALONE := not (mosquitto or influx or browser or nginx or caddy or postgres or curl or faketime or systemd or peers or slow)
WORKERS ?= 4
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: help demo demo-once setup check lint test test-loaded coverage bench docs soak soak-simulator soak-rule soak-weeks soak-whole kanpur fuzz clean

help:
	@echo "make demo    run everything on embedded defaults, no server needed (Ctrl-C ends it)"
	@echo "make demo-once   read every simulated meter once, show what was delivered, and end"
	@echo "make check   lint, types and all tests that need no server: under two minutes"
	@echo "make test    set up everything and run all tests"
	@echo "make test-loaded   all tests, then thrice those that wait, in random order beside busy loops"
	@echo "make coverage   the tests with the lines that they reach"
	@echo "make setup   virtual environment only    make lint   ruff and mypy"
	@echo "make bench   performance figures         make docs   regenerate the generated documents"
	@echo "make soak    the kill test with more kills"
	@echo "make soak-simulator   2,000 simulated meters in one process, each read once"
	@echo "make soak-rule   100,000 captures: the directory against a consumer that hears messages only"
	@echo "make soak-weeks   four simulated weeks of mishaps on both protocols: each interval is there once or declared"
	@echo "make soak-whole   300 random lives of office, edges, ledger and billing: all agree after every step"
	@echo "make kanpur  six weeks of a city with a re-key that goes wrong: hours (ARGS=--quick: a minute)"
	@echo "make fuzz    a million mutated frames of DLMS, and one of Modbus"
	@echo "make clean   remove environments and caches"

demo:
	@$(SETUP) run
	@.venv/bin/meter-gateway demo $(ARGS)

demo-once:
	@$(SETUP) run
	@.venv/bin/meter-gateway demo --once $(ARGS)

setup:
	@$(SETUP) run

check: lint
	@$(PYTEST) -m "$(ALONE)" $(ARGS)

test:
	@$(SETUP) test
	@$(PYTEST) $(ARGS)

test-loaded:
	@$(SETUP) test
	@$(PY) -m tests.support.loaded -n $(WORKERS) --dist loadgroup $(ARGS)

coverage:
	@$(SETUP) test
	@$(PYTEST) --cov --cov-report=term:skip-covered $(ARGS)

lint:
	@$(SETUP) dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench:
	@$(SETUP) test
	@$(SETUP) peers
	@$(PY) bench/pipeline.py $(ARGS)
	@$(PY) bench/edge.py $(ARGS)
	@$(PY) bench/dlms.py $(ARGS)
	@$(PY) bench/bus.py $(ARGS)
	@$(PY) bench/startup.py $(ARGS)
	@$(PY) bench/directory.py $(ARGS)
	@$(PY) bench/broker.py

docs:
	@$(SETUP) dev
	@$(PY) -m gateway.contract.schemas docs/contract
	@$(PY) -m gateway.cli.reference docs

soak:
	@$(SETUP) test
	@KILLS=100 $(PY) -m pytest tests/system/test_kill.py $(ARGS)

fuzz:
	@$(SETUP) dev
	@$(PY) -m tests.support.fuzz --frames 1000000 $(ARGS)
	@$(PY) -m tests.support.fuzz --frames 1000000 --only modbus $(ARGS)

soak-weeks:
	@$(SETUP) dev
	@WEEKS=4 $(PY) -m pytest tests/edge/polling/test_simulated_week.py -o faulthandler_timeout=0 $(ARGS)

soak-rule:
	@$(SETUP) dev
	@$(PY) -m tests.support.rule_model 100000 $(ARGS)

soak-whole:
	@$(SETUP) test
	@WHOLE=300 $(PY) -m pytest tests/central/test_whole_model.py -o faulthandler_timeout=0 $(ARGS)

kanpur:
	@$(SETUP) test
	@$(PY) bench/kanpur.py $(ARGS)

soak-simulator:
	@$(SETUP) test
	@$(PY) bench/soak_simulator.py $(ARGS)

clean:
	rm -rf .venv .venv-peers .setup .mypy_cache .ruff_cache .pytest_cache .coverage
