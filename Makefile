# cacher: every target is listed by `make help`.
SHELL := /bin/bash
CC ?= gcc
BUILD ?= build
EXTRA ?=
CFLAGS := $(shell cat tools/cflags.txt) -Icsrc $(EXTRA)
LDLIBS := -ljson-c -lopenblas -lpthread -lm

CORE_SRC := $(filter-out csrc/python/% csrc/tools/%,$(wildcard csrc/*/*.c csrc/*/*/*.c))
CORE_OBJ := $(CORE_SRC:csrc/%.c=$(BUILD)/%.o)
CORE_LIB := $(BUILD)/libcacher.a
TEST_SRC := $(wildcard tests/c/*/test_*.c)
TEST_BIN := $(TEST_SRC:tests/c/%.c=$(BUILD)/tests/%)

.PHONY: help core test-c
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/' | sort

core: $(CORE_LIB) $(BUILD)/cacher_run ## C library and cacher_run in build/

$(BUILD)/%.o: csrc/%.c tools/cflags.txt
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(CORE_LIB): $(CORE_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/cacher_run: csrc/tools/cacher_run.c $(CORE_LIB)
	$(CC) $(CFLAGS) $< $(CORE_LIB) $(LDLIBS) -o $@

$(BUILD)/tests/%: tests/c/%.c tests/c/check.h $(CORE_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -UNDEBUG -Itests/c $< $(CORE_LIB) $(LDLIBS) -o $@

test-c: $(TEST_BIN) ## C tests
	@for t in $(TEST_BIN); do $$t || exit 1; done

-include $(CORE_OBJ:.o=.d)
