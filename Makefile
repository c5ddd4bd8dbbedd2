# Commands for developers. Needs Python 3.11 or later with venv, git and make; installs everything else into .venv.
#
#   PYTHON=python3.12      the interpreter for .venv
#   LISTEN=tcp:9000        the endpoint of `make relay`, in Twisted's syntax
#   DEMO=1                 `make relay` with the demo page and plain HTTP
#   COVERAGE=1             `make test` with branch coverage; fails below 100 %
#   ARGS='--echo'          more options for `make relay`, `make test` (pytest), `make conformance`,
#                          `make bench`, `make fuzz`, `make soak` and `make neighbour`

.PHONY: help relay test check reference docs matrix conformance bench fuzz soak neighbour clean
.DEFAULT_GOAL := help

ARGS ?=
LISTEN ?=
PORT = $(or $(word 2,$(subst :, ,$(filter tcp:%,$(LISTEN)))),8080)
TRY = .venv/bin/websockets ws://127.0.0.1:$(PORT)/demo

# Editable: all commands run the current sources, and no build/ is written beside them.
INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable

# $(call step,WORDS,COMMAND): say what happens, and how long it took.
step = printf '%s ... ' "$(1)"; begun=$$(date +%s); $(2) || exit; echo "$$(($$(date +%s) - begun)) s"

help:
	@echo "make relay        run the relay on ws://127.0.0.1:8080/ (DEMO=1: with a page; LISTEN=tcp:9000, ARGS='--echo')"
	@echo "make test         run the tests, on this Python only (ARGS='-k unix'; COVERAGE=1: 100 % of the branches)"
	@echo "make check        style and types"
	@echo "make reference    write the options into docs/ and the man page"
	@echo "make docs         build the pages as a site, docs/.build/html/index.html"
	@echo "make matrix       everything on every Python, with tox; 3.14 only where it is installed"
	@echo "make conformance  the Autobahn testsuite; needs a Python 2.7 (ARGS=--quick)"
	@echo "make bench        measure the relay beside its peers, an hour and a half (ARGS=--quick: a minute; ARGS=--guard)"
	@echo "make fuzz         fuzz the handshake, the frames, a connection; a minute (ARGS='--seconds 300 gate')"
	@echo "make soak         load the relay for ten minutes, fail on leaks (ARGS='--seconds 60')"
	@echo "make neighbour    what one client address can take at most, and what others see; ten minutes (ARGS=--quick)"
	@echo "make clean        remove all files that these commands make"

relay: .venv/relay
	@echo "the relay     ws://127.0.0.1:$(PORT)/ and any path behind it, which is the room; Ctrl-C stops it"
	@echo "to try it     $(if $(DEMO),http://127.0.0.1:$(PORT)/   in two tabs of a browser,$(TRY)   in two more terminals, and type)"
	@exec .venv/bin/twistd --nodaemon --pidfile= wsrelay $(if $(DEMO),--demo --http) $(if $(LISTEN),--listen $(LISTEN)) $(ARGS)

# Without the packaging tests, which take a minute: see `make matrix`. -rs: list the skipped tests with reasons.
test: .venv/test $(if $(shell command -v npm 2>/dev/null),tests/interop/node_modules)
	.venv/bin/pytest -n 2 --dist loadfile -m "not packaging" -rs $(if $(COVERAGE),--cov) $(ARGS)

check: .venv/tox
	.venv/bin/tox -q -e lint,types

reference: .venv/relay
	.venv/bin/python docs/write_reference.py

docs: .venv/tox
	.venv/bin/tox -q -e docs -- $(ARGS)
	@echo "the site      file://$(CURDIR)/docs/.build/html/index.html"

# tox can skip missing interpreters only all or none; none but 3.14 may be missing.
matrix: .venv/tox
	@if python3.14 -c '' 2>/dev/null; then exec .venv/bin/tox; fi; \
	echo "no Python 3.14 here: its tests did not run"; TOX_SKIP_ENV='^py314$$' exec .venv/bin/tox

conformance: .venv/tox
	.venv/bin/tox -q -e conformance -- $(ARGS)

bench: .venv/relay
	@exec .venv/bin/python bench/run $(ARGS)

fuzz: .venv/test
	@exec .venv/bin/python fuzz/run $(ARGS)

soak: .venv/relay
	@exec .venv/bin/python soak/run $(ARGS)

neighbour: .venv/relay
	@exec .venv/bin/python soak/one_address $(ARGS)

clean:
	rm -rf .venv .tox .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.* build dist *.egg-info
	rm -rf conformance/.env27 conformance/reports tests/interop/node_modules twisted/plugins/dropin.cache
	rm -f wsrelay/*.so
	rm -rf docs/.build bench/.build bench/.env bench/peers/node_modules bench/results/quick bench/results/samples.jsonl
	rm -rf examples/node_modules examples/validator-package/build
	rm -rf fuzz/.env fuzz/.corpus fuzz/.finds soak/.env soak/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian has Python's venv in a package of its own.
.venv/bin/python:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "wsrelay needs Python 3.11 or later; $(or $(PYTHON),python3) is: $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)" >&2; \
	    echo "Install one and name it: PYTHON=python3.12 make $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$found has no venv; on Debian and Ubuntu: apt install $${found##*/}-venv" >&2; exit 1; \
	fi; \
	$(call step,creating .venv with $$("$$found" --version),"$$found" -m venv .venv || { rm -rf .venv; exit 1; })

# Installed packages per command; reinstalled when setup.cfg or the extension module changes.
BUILT_FROM = setup.cfg setup.py wsrelay/_native.c
.venv/relay: WORDS = the relay, a client and what they need
.venv/relay: PACKAGES = . websockets
.venv/test: WORDS = the relay and what the tests need
.venv/test: PACKAGES = '.[test,deploy]'

.venv/relay .venv/test: .venv/bin/python $(BUILT_FROM)
	@$(call step,installing $(WORDS) into .venv,$(INSTALL) $(PACKAGES))
	@touch $@

.venv/tox: .venv/bin/python
	@$(call step,installing tox into .venv,$(subst --editable,,$(INSTALL)) tox)
	@touch $@

# Without npm, the tests that need ws are skipped (in CI: fail).
tests/interop/node_modules: tests/interop/package-lock.json
	-@$(call step,installing the npm package ws,npm ci --silent --prefix tests/interop && touch $@)
