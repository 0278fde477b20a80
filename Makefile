# meter-gateway: `make demo` and `make test` do all their own set-up on Debian 12 with Python 3.11, git and make.
SHELL := /bin/bash
PY := .venv/bin/python
SETUP := deploy/setup.sh

.PHONY: help demo demo-once test coverage lint types check setup bench docs clean soak soak-simulator fuzz

help:
	@echo "make demo    run everything on embedded defaults, no server needed (Ctrl-C ends it)"
	@echo "make test    set up everything and run all tests"
	@echo "make setup   virtual environment only    make lint   ruff and mypy"
	@echo "make bench   performance figures         make docs   regenerate the generated documents"
	@echo "make coverage   the tests with the lines that they reach"
	@echo "make soak    the kill test with more kills"
	@echo "make soak-simulator   2,000 simulated meters in one process, each read once"
	@echo "make fuzz    a million mutated DLMS frames"

demo:
	@$(SETUP) run
	@.venv/bin/meter-gateway demo $(ARGS)

demo-once:
	@$(SETUP) run
	@.venv/bin/meter-gateway demo --once $(ARGS)

setup:
	@$(SETUP) run

test:
	@$(SETUP) test
	@$(PY) -m pytest $(ARGS)

coverage:
	@$(SETUP) test
	@$(PY) -m pytest --cov --cov-report=term:skip-covered $(ARGS)

lint:
	@$(SETUP) dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench:
	@$(SETUP) test
	@$(SETUP) peers
	@$(PY) bench/pipeline.py $(ARGS)
	@$(PY) bench/dlms.py $(ARGS)
	@$(PY) bench/startup.py $(ARGS)

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

soak-simulator:
	@$(SETUP) test
	@$(PY) bench/soak_simulator.py $(ARGS)

clean:
	rm -rf .venv .venv-peers .setup .mypy_cache .ruff_cache .pytest_cache .coverage
