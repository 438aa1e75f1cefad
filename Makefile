# Both need nothing but Python 3 and make:
#   make demo   renders the template and serves the project's first page
#   make test   proves that a change is sound; make test-all proves the rest, too

export PATH := $(CURDIR)/.uv/bin:$(PATH):/usr/sbin
UV := $(shell command -v uv || echo .uv/bin/uv)

# What the benchmark compares with.
PEERS := django-alive==2.0.0 django-health-check==4.8.0 django-watchman==1.5.0

# What the tests run beside the embedded PostgreSQL: programs, a browser, what the wheels of older servers link, and a
# server that speaks other languages; and where Debian keeps them.
PROGRAMS := chromium etcd ip localedef openssl pgbouncer promtool restic rsync systemd-analyze
LIBRARIES := libgssapi_krb5.so.2 liblz4.so.1 libreadline.so.8 libxml2.so.2 libzstd.so.1
PACKAGES := chromium etcd-server iproute2 libgssapi-krb5-2 liblz4-1 libreadline8 libxml2 libzstd1 locales openssl pgbouncer postgresql prometheus restic rsync systemd

.PHONY: demo test test-long test-all bench bench-failover bench-instrumentation bench-migrating bench-replicas bench-scaling bench-serving lint requirements
.DEFAULT_GOAL := demo

# Of the project that `make demo` renders; the benchmarks measure all that there is.
EDITION := essential
bench bench-instrumentation bench-migrating bench-serving: EDITION := cluster

demo: $(UV)
	@python3 scripts/demo.py $(UV) $(EDITION)

# All that tells whether a change is sound.
test: $(UV) requirements
	$(UV) run pytest --numprocesses 2 --dist worksteal -m "not long"

# The proofs that take long: outages, failovers, recoveries, other versions, and deploys under load.
test-long: $(UV) requirements
	$(UV) run pytest --numprocesses 2 --dist worksteal -m long

test-all: test test-long

bench: demo
	@cd demo/backend && uv run --quiet $(PEERS:%=--with %) python ../../benchmarks/health.py

bench-failover: $(UV) requirements
	@$(UV) run --quiet python -B benchmarks/failover.py

bench-instrumentation: demo
	@cd demo/backend && uv run --quiet python -B ../../benchmarks/instrumentation.py

bench-migrating: demo
	@cd demo/backend && uv run --quiet python ../../benchmarks/migrating.py

bench-replicas: $(UV) requirements
	@$(UV) run --quiet python -B benchmarks/replicas.py

bench-scaling: $(UV) requirements
	@$(UV) run --quiet python -B benchmarks/scaling.py

bench-serving: demo
	@cd demo/backend && uv run --quiet python ../../benchmarks/serving.py

lint: $(UV)
	$(UV) run ruff check --no-cache
	$(UV) run ruff format --check --no-cache

# A uv of the repository's own, where there is none.
.uv/bin/uv:
	@python3 -m venv .uv >/dev/null 2>&1 \
	    || { rm -rf .uv; echo "Python's module venv does not work: run apt-get install python3-venv, or install uv." >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet uv \
	    || { rm -rf .uv; echo "pip could not install uv, for the reason above: mend that, or install uv otherwise." >&2; exit 1; }

requirements:
	@for program in $(PROGRAMS); do command -v $$program >/dev/null || lacking="$$lacking $$program"; done; \
	for library in $(LIBRARIES); do /sbin/ldconfig -p | grep -qF $$library || lacking="$$lacking $$library"; done; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || lacking="$$lacking postgresql"; \
	if [ -n "$$lacking" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null; \
	elif [ -n "$$lacking" ]; then \
	    echo "The tests need$$lacking: run sudo apt-get install $(PACKAGES)." >&2; exit 1; \
	fi
