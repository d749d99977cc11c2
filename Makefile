# LookThink: everything a newcomer types. Needs Python 3.11 or newer and make; uses uv where it is there.
#
#   make app     serve the page on port 7860 (GRADIO_SERVER_PORT and LOOKTHINK_HOME are honoured)
#   make train   post-train an adapter on the starter problems, about four minutes on two cores
#   make space   write README.md's block for the Hub from space.yaml
#   make test    the tests; PYTEST_ARGS adds options
#   make check   ruff (rules and format), mypy and the tests, with those that take minutes: whole runs, Jobs and Spaces
#   make check-page  every view of the page at every size, by day and by night: axe, console, overflow, jumps
#   make torture runs and app killed at random moments in every phase and resumed; 500 questions while a run trains;
#                every kind of fault at every route of the Hub; called again after it was cut, it goes on
#   make audit   pip-audit asks whether a release in constraints.txt has a known weakness; says what it could not ask
#   make constraints   write constraints.txt anew from the two files of requirements; needs uv

PYTHON := .venv/bin/python
checksum = $(firstword $(shell cat $(1) | cksum))
# A stamp is named after what the requirements say, so that an install happens again when, and only when, they change.
RUN_STAMP := .venv/.run-$(call checksum,requirements.txt constraints.txt)
# Three files of tests at a time, each on one core, because tests wait for a third of their time; `make test
# PYTEST_ARGS="-n 0"` runs one after the other.
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder
DEV_STAMP := .venv/.dev-$(call checksum,requirements.txt requirements-dev.txt constraints.txt)
HAS_UV := $(shell uv --version >/dev/null 2>&1 && echo yes)

# What passed of the torture with these files: called again, it goes on where it was cut. Another change begins anew.
TORTURE := .torture/$(firstword $(shell { git rev-parse HEAD; git diff HEAD; } 2>&1 | cksum))
TORTURE_TESTS = LOOKTHINK_TORTURE=1 LOOKTHINK_TORTURE_RECORD=$(CURDIR)/$(TORTURE) $(PYTHON) -m pytest

export GRADIO_SERVER_PORT ?= 7860
export TOKENIZERS_PARALLELISM ?= false

.PHONY: app train pretrain space test check check-page torture audit constraints clean
.DELETE_ON_ERROR:

app: $(RUN_STAMP)
	$(PYTHON) app.py

train: $(RUN_STAMP)
	$(PYTHON) -m training train --profile starter

pretrain: $(RUN_STAMP)
	$(PYTHON) -m training pretrain

space: $(RUN_STAMP)
	$(PYTHON) -m training.hub.space.readme_block

test: $(DEV_STAMP)
	$(PYTEST) $(PYTEST_ARGS)

check: $(DEV_STAMP)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	LOOKTHINK_LONG=1 $(PYTEST) $(PYTEST_ARGS)

check-page: $(DEV_STAMP)
	LOOKTHINK_MATRIX=1 LOOKTHINK_REQUIRE_BROWSER=1 $(PYTEST) -m matrix tests/end_to_end $(PYTEST_ARGS)

torture: $(DEV_STAMP)
	@mkdir -p $(TORTURE)
	$(TORTURE_TESTS) -s -m torture
	test -e $(TORTURE)/attack || { $(PYTHON) -m training.grading.attack --seconds 120 && touch $(TORTURE)/attack; }
	$(TORTURE_TESTS) -m hypothesis  # other examples every time
	@awk '{ seconds += $$1 } END { printf "%d tests passed in %.0f minutes\n", NR, seconds / 60 }' $(TORTURE)/passed
	@cat $(TORTURE)/figures

audit: $(DEV_STAMP)
	$(PYTHON) -m tests.support.audit $(AUDIT_ARGS)

constraints:
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	    requirements.txt requirements-dev.txt --output-file constraints.txt.new
	@{ grep '^#' constraints.txt; cat constraints.txt.new; } > constraints.txt.whole && rm constraints.txt.new && \
	    mv constraints.txt.whole constraints.txt

clean:
	rm -rf .venv .torture .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_STAMP): | $(PYTHON)
	$(call install,-r requirements.txt)
	@rm -f .venv/.run-* && touch $@

$(DEV_STAMP): | $(PYTHON)
	$(call install,-r requirements.txt -r requirements-dev.txt)
	@rm -f .venv/.dev-* .venv/.run-* && touch $@ $(RUN_STAMP)

ifeq ($(HAS_UV),yes)
# Without an NVIDIA GPU the build of torch for CPUs saves 4 GB; uv chooses the build where PyTorch's own index answers.
# Bytecode is compiled as pip does it: else each of many processes compiles the libraries anew.
PROBE = UV_HTTP_TIMEOUT=5 UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=0 uv pip install --quiet --dry-run --no-deps
define install
	@backend="--torch-backend auto"; \
	$(PROBE) --python $(PYTHON) $$backend "$$(grep '^torch==' requirements.txt)" >/dev/null 2>&1 || { backend=; \
	    echo "PyTorch's own index did not answer within 5 seconds: torch comes from the ordinary index, with CUDA on Linux."; }; \
	uv pip install --compile-bytecode --python $(PYTHON) $$backend -c constraints.txt $(1)
endef
else
install = $(PYTHON) -m pip install --disable-pip-version-check -c constraints.txt $(1)
endif

# The first Python that is new enough: the machine's own, else one with its version in its name, else one uv knows.
$(PYTHON):
	@found=; for name in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	    if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$name; break; fi; \
	done; \
	rm -rf .venv; \
	if [ "$(HAS_UV)" = yes ]; then uv venv --quiet --python "$${found:-3.12}" .venv; \
	elif [ -z "$$found" ]; then echo "error: Python 3.11 or newer is needed, and none was found" >&2; exit 1; \
	else $$found -m venv .venv || { rm -rf .venv; \
	    echo "error: $$found cannot make a virtual environment; install its venv module (Debian: python3-venv), or uv" >&2; exit 1; }; \
	fi
