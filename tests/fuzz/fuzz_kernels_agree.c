/* All instruction sets this CPU has give the bits of the generic kernels, for shapes and values read from the input. */
#include "../c/kern/agree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *names[] = {"avx2", "avx512"};
    const cch_kernels *generic = NULL;
    if (size == 0) return 0;
    cch_kernels_get("generic", &generic, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cch_kernels *isa = NULL;
        draw d = {.bytes = data + 1, .n = size - 1, .state = size, .wild = data[0] & 0x80};
        if (cch_kernels_get(names[i], &isa, NULL) != CCH_OK) continue;
        if (!agree_ops[data[0] % N_AGREE_OPS](generic, isa, &d)) abort();
    }
    return 0;
}
