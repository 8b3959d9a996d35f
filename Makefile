# cacher: `make help` lists every target.
SHELL := /bin/bash
ifeq ($(origin CC),default)
CC := gcc
endif
BUILD ?= build
EXTRA ?=
N ?= 1000
T ?= 60
VENV ?= .venv
PY := $(VENV)/bin/python
# pytest in two processes, a file of tests in one of them: most tests have one core busy, or wait.
PYTEST := $(PY) -m pytest -q -n 2 --dist loadfile
CFLAGS := $(shell cat tools/cflags.txt) -Icsrc $(EXTRA)
LDLIBS := -ljson-c -lpthread -lm

CORE_SRC := $(filter-out csrc/python/% csrc/tools/%,$(wildcard csrc/*/*.c csrc/*/*/*.c))
CORE_OBJ := $(CORE_SRC:csrc/%.c=$(BUILD)/%.o)
CORE_LIB := $(BUILD)/libcacher.a
TEST_SRC := $(wildcard tests/c/*/test_*.c)
TEST_BIN := $(TEST_SRC:tests/c/%.c=$(BUILD)/tests/%)

.DEFAULT_GOAL := help
.PHONY: help demo test core all ext dev test-c test-py test-isa laws parity slow crash crash-pipelines bench bench-peers \
        bench-api bench-chat bench-formats bench-index bench-embed bench-semantic bench-pipelines bench-tokenizers \
        bench-branches bench-decoding false-hits \
        lint fmt werror asan ubsan tsan fuzz fuzz-replay sdist clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

# ---- the two commands of the README: each does all its own set-up --------------------------------------------------
demo: ## the built-in model tells a story, forks it, searches, saves and resumes it
	@tools/setup.sh venv
	@$(PY) -m cacher story

test: ## the default test suite: C tests, then pytest
	@tools/setup.sh venv dev
	@$(MAKE) --no-print-directory -j2 test-c
	@$(MAKE) --no-print-directory test-py

# ---- building ------------------------------------------------------------------------------------------------------
core: $(CORE_LIB) $(BUILD)/cacher_run ## the C library and cacher_run, without Python, in build/

all: core $(TEST_BIN) ## core, and the programs of the C tests

$(BUILD)/%.o: csrc/%.c tools/cflags.txt
	@mkdir -p $(@D)
	@echo "  CC  $@"
	@$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(CORE_LIB): $(CORE_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/cacher_run: csrc/tools/cacher_run.c $(CORE_LIB)
	$(CC) $(CFLAGS) $< $(CORE_LIB) $(LDLIBS) -o $@

# The tests themselves take longer to optimize than they run.
$(BUILD)/tests/%: tests/c/%.c tests/c/check.h $(wildcard tests/c/*/*.h) $(CORE_LIB)
	@mkdir -p $(@D)
	@echo "  LD  $@"
	@$(CC) $(CFLAGS) -O1 -UNDEBUG -Itests/c $< $(CORE_LIB) $(LDLIBS) -o $@

$(BUILD)/bench_%: benchmarks/bench_%.c benchmarks/probes.h $(CORE_LIB)
	$(CC) $(CFLAGS) -Ibenchmarks $< $(CORE_LIB) $(LDLIBS) -lopenblas -o $@

ext: ## the Python extension, in place, in .venv
	@tools/setup.sh venv dev

dev: ext ## environment for developers, with the commit hooks
	@$(VENV)/bin/pre-commit install

sdist: ## source distribution, then a build from it in an empty environment
	@tools/setup.sh venv dev
	@$(PY) tools/check_sdist.py

# ---- tests ---------------------------------------------------------------------------------------------------------
test-c: $(TEST_BIN:%=run/%) ## C tests, with -j2 two at a time (BUILD=... EXTRA=... choose another build)

.PHONY: $(TEST_BIN:%=run/%)
$(TEST_BIN:%=run/%): run/%: %
	@$(if $(ONLY_IF),$(ONLY_IF) || exit 0;) $<

test-py: ## pytest, default suite
	@$(PYTEST)

test-isa: ## C tests and Python kernel tests once per instruction set this CPU has
	@tools/setup.sh venv dev
	@for isa in generic avx2 avx512 avx512bf16 amx; do \
	    CACHER_ISA=$$isa $(PY) -c 'import cacher; cacher.load("tales")' 2>/dev/null || { echo "$$isa: not on this CPU"; continue; }; \
	    echo "== $$isa"; \
	    CACHER_ISA=$$isa $(MAKE) --no-print-directory test-c && CACHER_ISA=$$isa $(PY) -m pytest -q tests/laws || exit 1; done

laws: ## N random programs against a straight-line run (N=10000)
	@tools/setup.sh venv dev
	@$(PY) -m tests.laws.programs $(N)

parity: ## equality with transformers and tokenizers
	@tools/setup.sh venv dev,parity
	@OMP_NUM_THREADS=1 $(PYTEST) -m parity tests/parity -rP # torch's threads of two processes would wait for each other

slow: ## tests that take minutes, or a browser
	@tools/setup.sh venv dev
	@tools/setup.sh browser
	@$(PYTEST) --dist load --maxschedchunk 1 -m slow --durations=12

crash: ## kill -9 the server under load, and processes that share a store, N times each: nothing acknowledged is lost
	@tools/setup.sh venv dev
	@$(PY) -m tests.crash server $(N)
	@$(PY) -m tests.crash store $(N)

crash-pipelines: ## kill -9 a run of 2,000 requests through a pipeline over a cache and run it again, N times: nothing is paid twice
	@tools/setup.sh venv dev
	@$(PY) -m tests.crash pipelines $(N)

bench-peers: ## beside llama.cpp, CTranslate2 and torch, and the machine's limits; writes docs/benchmarks.md
	@tools/setup.sh venv dev
	@tools/setup.sh engines
	@$(MAKE) --no-print-directory -s $(BUILD)/bench_limits
	@$(PY) benchmarks/run.py --parts peers loads tracing

bench: ## all of bench-peers, start-up, forks, and matrix products beside OpenBLAS; writes docs/benchmarks.md
	@tools/setup.sh venv dev
	@tools/setup.sh engines
	@$(MAKE) --no-print-directory -s $(BUILD)/bench_limits $(BUILD)/bench_kernels
	@$(PY) benchmarks/run.py

bench-index: ## the similarity index beside the bandwidth of memory, and faiss where it is installed
	@tools/setup.sh venv dev
	@$(PY) benchmarks/index.py

bench-embed: ## embedding with MiniLM beside sentence-transformers, onnxruntime and CTranslate2
	@tools/setup.sh venv dev
	@tools/setup.sh embedders
	@$(PY) benchmarks/embedding.py

bench-semantic: ## all of embedding, index and semantic cache beside their peers; writes docs/benchmarks-semantic.md
	@tools/setup.sh venv dev
	@tools/setup.sh embedders
	@tools/setup.sh caches
	@$(MAKE) --no-print-directory -s $(BUILD)/bench_limits
	@$(PY) benchmarks/semantic.py

bench-branches: ## decoding 64 branches of one long prefix beside the same sequences apart
	@tools/setup.sh venv dev
	@$(PY) benchmarks/branches.py

bench-decoding: ## guessing ahead, beam search, several continuations and traces beside plain decoding; writes docs/benchmarks-decoding.md
	@tools/setup.sh venv dev
	@$(PY) benchmarks/decoding.py

bench-pipelines: ## request pipelines beside the newest cachesaver; writes docs/benchmarks-pipelines.md
	@tools/setup.sh venv dev
	@tools/setup.sh pipelines
	@$(PY) benchmarks/pipelines.py

bench-chat: ## the chat service beside the same model in torch; writes docs/benchmarks-chat.md
	@tools/setup.sh venv dev
	@tools/setup.sh chat
	@$(PY) benchmarks/chat.py

bench-tokenizers: ## encoding and decoding beside tiktoken and tokenizers; writes docs/benchmarks-tokenizers.md
	@tools/setup.sh venv dev
	@tools/setup.sh tokenizers
	@$(PY) benchmarks/tokenizing.py

bench-formats: ## perplexity on a text (TEXT=file) and errors of logits in bf16 and int8
	@tools/setup.sh venv dev
	@$(PY) benchmarks/formats.py $(TEXT)

false-hits: ## how often the semantic cache is wrong, by threshold; writes into docs/semantic-cache.md
	@tools/setup.sh venv dev
	@$(PY) benchmarks/false_hits.py

bench-api: ## the server: states and streams beside their floors, then load against llama.cpp's with the same weights
	@tools/setup.sh venv dev
	@tools/setup.sh peer
	@$(PY) benchmarks/operations.py
	@$(PY) benchmarks/api.py --peer build/peer/bin/python

# ---- quality -------------------------------------------------------------------------------------------------------
lint: ## ruff, mypy, layers, budgets, each header compiled alone
	@tools/setup.sh venv dev
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(PY) tools/check_layers.py

fmt: ## ruff, in place
	@tools/setup.sh venv dev
	@$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .

werror: ## the C library and its tests with warnings as errors
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD)/werror EXTRA=-Werror all

# Half of the time of the checked tests would be calls of fmaf in the portable kernels: one instruction, where there is one.
FMA = $(if $(shell grep -m1 -ow fma /proc/cpuinfo),-mfma)
SANITIZE = $(MAKE) --no-print-directory -j2 BUILD=$(BUILD)/$@ \
    EXTRA="-O1 -UNDEBUG $(FMA) -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=$(1)" test-c
asan: ## C tests under the address and undefined-behaviour sanitizers
	@$(call SANITIZE,address$(,)undefined)
tsan: ## C tests that can start threads, as others cannot race, under the thread sanitizer
	@$(call SANITIZE,thread) ONLY_IF='nm -u $$< | grep -q pthread_create'
, := ,

-include mk/fuzz.mk
-include $(CORE_OBJ:.o=.d)

clean: ## everything that was built
	rm -rf $(BUILD) dist *.egg-info
