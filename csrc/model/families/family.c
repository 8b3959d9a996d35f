#include "model/families/family.h"

#include <string.h>

const cch_family *cch_family_find(const char *architecture) {
    static const cch_family *const families[] = {&cch_family_gpt2, &cch_family_llama, &cch_family_bert,
                                                 &cch_family_modernbert, &cch_family_niels1, &cch_family_niels2};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        for (const char *const *name = families[i]->architectures; *name != NULL; name++)
            if (strcmp(*name, architecture) == 0) return families[i];
    return NULL;
}

bool cch_pattern_match(const char *pattern, const char *name, int *out_layer) {
    const char *hash = strchr(pattern, '#');
    *out_layer = -1;
    if (hash == NULL) return strcmp(pattern, name) == 0;
    size_t before = (size_t)(hash - pattern);
    if (strncmp(pattern, name, before) != 0) return false;
    const char *digits = name + before;
    int layer = 0;
    size_t n = 0;
    for (; n < 6 && digits[n] >= '0' && digits[n] <= '9'; n++) layer = layer * 10 + (digits[n] - '0');
    if (n == 0 || (n > 1 && digits[0] == '0') || strcmp(hash + 1, digits + n) != 0) return false;
    *out_layer = layer;
    return true;
}

bool cch_family_ignores(const cch_family *family, const char *name) {
    int layer;
    for (const char *const *pattern = family->ignored; *pattern != NULL; pattern++)
        if (cch_pattern_match(*pattern, name, &layer)) return true;
    return false;
}
