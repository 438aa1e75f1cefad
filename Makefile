# Both need nothing but Python 3 and make:
#   make demo   renders the template and serves the project's first page
#   make test   proves that everything works

export PATH := $(CURDIR)/.uv/bin:$(PATH)
UV := $(shell command -v uv || echo .uv/bin/uv)

# What the tests' older PostgreSQL links, and where Debian keeps it.
LIBRARIES := libgssapi_krb5.so.2 liblz4.so.1 libreadline.so.8 libxml2.so.2 libzstd.so.1
PACKAGES := libgssapi-krb5-2 liblz4-1 libreadline8 libxml2 libzstd1

.PHONY: demo test lint libraries
.DEFAULT_GOAL := demo

demo: $(UV)
	@python3 scripts/demo.py $(UV)

test: $(UV) libraries
	$(UV) run pytest --numprocesses 2

lint: $(UV)
	$(UV) run ruff check --no-cache
	$(UV) run ruff format --check --no-cache

# A uv of the repository's own, where there is none.
.uv/bin/uv:
	@python3 -m venv .uv >/dev/null 2>&1 \
	    || { rm -rf .uv; echo "Python's module venv does not work: run apt-get install python3-venv, or install uv." >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet uv \
	    || { rm -rf .uv; echo "pip could not install uv, for the reason above: mend that, or install uv otherwise." >&2; exit 1; }

libraries:
	@for library in $(LIBRARIES); do /sbin/ldconfig -p | grep -qF $$library || lacking="$$lacking $$library"; done; \
	if [ -n "$$lacking" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null; \
	elif [ -n "$$lacking" ]; then \
	    echo "The tests' older PostgreSQL needs$$lacking: run sudo apt-get install $(PACKAGES)." >&2; exit 1; \
	fi
