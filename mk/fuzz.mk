# Fuzzing.  A target is tests/fuzz/fuzz_<name>.c with LLVMFuzzerTestOneInput; its seeds lie in tests/fuzz/corpus/<name>/,
# words worth trying in tests/fuzz/<name>.dict.
#
#   make fuzz                 every target for T seconds (default 60) with clang's libFuzzer, ASan and UBSan
#   make fuzz TARGET=json     one target
#   make fuzz-replay          the committed seeds through the plain driver, with any compiler
#
# What libFuzzer finds worth keeping goes to build/fuzz/corpus/<name>, crashes to build/fuzz/crashes.

CLANG ?= $(firstword $(foreach c,clang clang-14,$(shell command -v $c)))
TARGET ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ := $(BUILD)/fuzz
FUZZ_CHECKS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_CFLAGS = $(CFLAGS) -O1 -UNDEBUG $(FMA) -Itests/fuzz

$(FUZZ)/core/%.o: csrc/%.c tools/cflags.txt
	@mkdir -p $(@D)
	@test -n "$(CLANG)" || { echo "make fuzz needs clang (apt install clang); make fuzz-replay does not"; exit 1; }
	$(CLANG) $(FUZZ_CFLAGS) -Wno-unknown-warning-option $(FUZZ_CHECKS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@

# Full of checks, the large functions of a kernel file take clang a minute and a half to optimize, 14 s not to; the portable
# ones, which all others are compared with, are small.  What a kernel compares leads no input further, and takes half the time.
$(FUZZ)/core/kern/kern_a%.o: FUZZ_CFLAGS += -O0 -fno-sanitize-coverage=trace-cmp

$(FUZZ)/fuzz_%: tests/fuzz/fuzz_%.c $(CORE_SRC:csrc/%.c=$(FUZZ)/core/%.o)
	$(CLANG) $(FUZZ_CFLAGS) -Wno-unknown-warning-option $(FUZZ_CHECKS) -fsanitize=fuzzer $^ $(LDLIBS) -o $@

$(FUZZ)/replay/core/%.o: csrc/%.c tools/cflags.txt
	@mkdir -p $(@D)
	$(CC) $(FUZZ_CFLAGS) $(FUZZ_CHECKS) -MMD -MP -c $< -o $@

$(FUZZ)/replay/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/driver.c $(CORE_SRC:csrc/%.c=$(FUZZ)/replay/core/%.o)
	$(CC) $(FUZZ_CFLAGS) $(FUZZ_CHECKS) $^ $(LDLIBS) -o $@

.PRECIOUS: $(FUZZ)/core/%.o $(FUZZ)/replay/core/%.o
.PHONY: fuzz fuzz-replay

fuzz: $(TARGET:%=fuzz/%) ## T=60 seconds of libFuzzer per target (TARGET=json: only that one), with -j2 two at a time

.PHONY: $(TARGET:%=fuzz/%)
$(TARGET:%=fuzz/%): fuzz/%: $(FUZZ)/fuzz_%
	@mkdir -p $(FUZZ)/crashes $(FUZZ)/corpus/$*
	@$< -max_total_time=$(T) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	    $(patsubst %,-dict=%,$(wildcard tests/fuzz/$*.dict)) -artifact_prefix=$(FUZZ)/crashes/$*- \
	    $(FUZZ)/corpus/$* $(wildcard tests/fuzz/corpus/$*) >$(FUZZ)/$*.log 2>&1 \
	    || { tail -40 $(FUZZ)/$*.log; exit 1; }
	@echo "fuzz_$*: $$(grep -o 'number_of_executed_units: *[0-9]*' $(FUZZ)/$*.log | grep -o '[0-9]*$$') executions"

fuzz-replay: $(TARGET:%=$(FUZZ)/replay/fuzz_%) ## the committed fuzz inputs once, with any compiler
	@for t in $(TARGET); do \
	    if test -d tests/fuzz/corpus/$$t; then $(FUZZ)/replay/fuzz_$$t tests/fuzz/corpus/$$t || exit 1; \
	    else echo "fuzz_$$t: no seeds in tests/fuzz/corpus/$$t"; fi; \
	done

-include $(CORE_SRC:csrc/%.c=$(FUZZ)/core/%.d) $(CORE_SRC:csrc/%.c=$(FUZZ)/replay/core/%.d)
