# Two commands matter: `make demo` and `make test`. Each sets up what it needs on a machine with Go, Python 3 and make.

PYTHON  ?= python3
VENV    := .venv
PY      := $(VENV)/bin/python
GO      ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
export PADSTONE_PYTHON := $(CURDIR)/$(PY)

# Arguments of the demo: make demo PAYMENTS=1000000 LATE=0 BOOTSTRAP=host:9092 ARGS="--seed 7"
PAYMENTS  ?= 20000
LATE      ?= 1
BOOTSTRAP ?=

# What ruff looks at.
PYTHON_DIRS := demo tests conformance chaos containers testdata/kafka internal/bench

# A mirror that fails for a moment is asked again, and a package manager that is at work already is waited for.
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60
APT_GET := apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300

# Run in this order under -j as well: the steps share two cores, and the tests have time limits.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: all build demo fetch test check lint test-go test-python test-oldest fmt clean
.PHONY: images chaos conformance conformance-quick conformance-typescript conformance-java reference sim fuzz bench-memory bench-recovery bench-check bench-go

all: build

build: bin/padstone

# Go knows best whether something changed. Without cgo all memory is on Go's heap, which --memory-limit bounds.
.PHONY: bin/padstone
bin/padstone:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -o $@ ./cmd/padstone

# Debian and Ubuntu keep ensurepip in a package of its own; without it there is no virtual environment.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	  { echo "apache-beam 2.77.0 needs Python 3.10 to 3.13: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "python3-venv is missing, installing it"; \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO $(APT_GET) update && $$SUDO $(APT_GET) install -y python3-venv; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.demo
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@

demo: build $(VENV)/.demo
	$(PY) demo/run.py --payments $(PAYMENTS) --late $(LATE) $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP)) $(ARGS)

# What `test` takes from the network, and no more: a step that may be repeated, as .ci/run does.
fetch: $(VENV)/.test
	$(GO) list -test -deps ./... >/dev/null
	cd bench && $(GO) list -deps ./... >/dev/null
	$(PY) conformance/run.py --build quick
	$(GO) run $(STATICCHECK) -version
	$(PY) testdata/kafka/kafka_node.py fetch

test: lint test-go test-python conformance-quick

check: test

lint: $(VENV)/.test
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); \
	  [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(PY) -m ruff check $(PYTHON_DIRS)
	$(PY) -m ruff format --check $(PYTHON_DIRS)

# The race detector needs a C compiler; a machine without one still runs the tests.
RACE := $(if $(shell command -v $${CC:-cc} 2>/dev/null),-race)
test-go: build $(VENV)/.test
	$(if $(RACE),,@echo "no C compiler: running without the race detector")
	$(GO) test $(RACE) -timeout 20m ./...
	$(if $(RACE),$(GO) test -run InBoundedMemory ./engine)

# Most tests wait for most of their time, for Python to start or for a server to do something: several run side by side.
# "loadgroup" keeps those together that share something expensive. PYTEST_ARGS="-k docker" chooses.
WORKERS     ?= 3
PYTEST_ARGS ?=
test-python: build $(VENV)/.test
	$(PY) -m pytest tests -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

# Container images, built without pulling one: see docs/docker.md. Needs an engine that runs. IMAGES="python3.11 server" chooses;
# `python` is that of this Python. BASE='debian:{release}-slim' builds on an image that is pulled.
IMAGES ?=
BASE   ?=
images: $(PY)
	@[ -n '$(BASE)' ] || command -v mmdebstrap >/dev/null || { \
	  echo "mmdebstrap is missing, installing it"; \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO $(APT_GET) update && $$SUDO $(APT_GET) install -y --no-install-recommends mmdebstrap >/dev/null; }
	$(PY) containers/build.py $(if $(BASE),--base '$(BASE)') $(IMAGES)

# kill -9 of server, harnesses and a real Kafka broker under the main job; chaos/run.py --help. Needs Java and Maven.
chaos: build $(VENV)/.demo
	$(PY) chaos/run.py $(ARGS)

# Every fuzz test in turn, for FUZZTIME each. Their seeds run with test-go. What a failure leaves in testdata/fuzz is its regression test.
FUZZTIME ?= 30s
fuzz:
	@set -e; git grep -n -o -E '^func Fuzz[A-Za-z0-9]+' -- '*_test.go' | while IFS=: read -r file line func; do \
	  echo "== $${func#func } in $$(dirname "$$file")"; \
	  $(GO) test "./$$(dirname "$$file")" -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x; \
	done

# Beam's own suites: see conformance/README.md.
conformance: build $(VENV)/.test
	$(PY) conformance/run.py all

conformance-quick: build $(VENV)/.test
	$(PY) conformance/run.py quick

# The tests of the TypeScript SDK. Needs Node.js and npm; builds the SDK on its first run.
conformance-typescript: build $(VENV)/.test
	$(PY) conformance/typescript/run.py

# Random jobs against the model by brute force: as many as wanted, from seed SEED on.
SEEDS ?= 500
SEED  ?= 0
reference:
	$(GO) test -timeout 0 ./engine -run 'TestMetamorphic|TestReference' -seed $(SEED) -seeds $(SEEDS)

# Simulated crashes and faults: as many seeds as wanted, from SEED on. One seed alone is replayed with all that happens.
sim:
	@mkdir -p bin
	$(GO) test -c -o bin/sim.test ./engine/sim
	bin/sim.test -test.timeout 0 -test.run 'TestSim$$' -seed $(SEED) -seeds $(SEEDS)

# The ValidatesRunner tests of the Java SDK, and pipelines in Java and Python. Needs Java and Maven; takes half an hour.
conformance-java: build $(VENV)/.test
	$(PY) conformance/java/run.py

# The oldest SDK that is supported runs the same demo.
OLDEST := .venv-2.65
$(OLDEST)/.demo: demo/requirements-2.65.txt
	@oldest=$$(for p in $(PYTHON) python3.12 python3.11 python3.10 python3.9; do \
	  $$p -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done); \
	  [ -n "$$oldest" ] || { echo "apache-beam 2.65.0 needs Python 3.9 to 3.12" >&2; exit 1; }; \
	  $$oldest -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

test-oldest: build $(OLDEST)/.demo $(VENV)/.test
	$(OLDEST)/bin/python demo/run.py --payments $(PAYMENTS) --late $(LATE) $(ARGS)
	PADSTONE_OLDEST=$(abspath $(OLDEST))/bin/python $(PY) -m pytest tests/test_upgrade.py -k oldest

# Loads that are too long for a test, see bench/doc.go. ARGS are its flags.
ELEMENTS ?= 100000000
bench-memory: build
	cd bench && $(GO) run . -elements $(ELEMENTS) -limit-mib 640 $(ARGS)

# State of KEYS thousand bytes, killed and recovered. Takes GB of disk and a quarter of an hour.
KEYS ?= 10000000
bench-recovery: build $(VENV)/.test
	cd bench && $(GO) run . recovery -keys $(KEYS) $(ARGS)

# Go benchmarks of what elements pass through. "x-copy" and "x-file" are ratios to a copy and to plain files, measured in the same run.
# ARGS="-bench Commit -benchtime 3s" chooses.
bench-go:
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 500ms $(ARGS) \
	  ./engine/coder ./engine/store ./engine/scheduler ./engine/group ./engine/bundle ./fnapi

# What this build costs against bench/ratios.json, in terms of the same machine's harness. ARGS=--update accepts what has changed.
bench-check: build $(VENV)/.demo
	bin/padstone bench check --ratios bench/ratios.json $(ARGS)

fmt: $(VENV)/.test
	git ls-files '*.go' | xargs gofmt -w
	$(PY) -m ruff format $(PYTHON_DIRS)

clean:
	rm -rf bin .venv .venv-2.65 .padstone .cache
