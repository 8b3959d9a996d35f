#include "io/labels.h"

#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/alloc.h"

/* An array of n strings and the text behind it, in one block; *out_text: room for `bytes`. */
static cch_status new_labels(size_t n, size_t bytes, char ***out_labels, char **out_text, cch_error *err) {
    cch_status status = CCH_OK;
    size_t table = n * sizeof **out_labels, total;
    char *block = NULL;
    *out_labels = NULL;
    *out_text = NULL;
    if (!cch_add(table, bytes, &total)) CCH_FAIL(err, CCH_E_MEMORY, -1, "%zu bytes of labels do not fit memory", bytes);
    CCH_NEW(block, total, err);
    *out_labels = (char **)(void *)block;
    *out_text = block + table;
done:
    return status;
}

/* A key of id2label as a number below n.  Only one way of writing a number counts, so that different keys are different
 * numbers, and n of them are all there are. */
static bool label_index(const char *key, size_t len, size_t n, size_t *out) {
    *out = 0;
    if (len == 0 || len > 6 || (len > 1 && key[0] == '0')) return false;
    for (size_t i = 0; i < len; i++) {
        if (key[i] < '0' || key[i] > '9') return false;
        *out = *out * 10 + (size_t)(key[i] - '0');
    }
    return *out < n;
}

/* Checks the keys and names of id2label; *out_bytes: what the names take, a NUL behind each. */
static cch_status check_labels(cch_json labels, size_t n, size_t *out_bytes, cch_error *err) {
    cch_json_iter it = cch_json_members(labels);
    cch_json value;
    const char *key, *name;
    char where[CCH_JSON_TEXT];
    size_t key_len, len, index;
    *out_bytes = 0;
    while (cch_json_next(&it, &key, &key_len, &value)) {
        if (!label_index(key, key_len, n, &index))
            CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has the key \"%.40s\", expected the numbers 0 to %zu",
                     cch_json_where(labels, where), key, n - 1);
        CCH_RETURN_IF(cch_json_get_string(value, &name, &len, err));
        if (memchr(name, '\0', len) != NULL) return cch_json_refuse(value, "names without NUL", err);
        if (!cch_add(*out_bytes, len + 1, out_bytes))
            CCH_FAIL(err, CCH_E_MEMORY, -1, "%s does not fit memory", cch_json_where(labels, where));
    }
    return CCH_OK;
}

cch_status cch_labels_read(cch_json id2label, char ***out_labels, int32_t *out_n, cch_error *err) {
    cch_json_iter it = cch_json_members(id2label);
    cch_json value;
    const char *key, *name;
    char **labels, *text, where[CCH_JSON_TEXT];
    size_t n = cch_json_len(id2label), bytes, key_len, len, index;
    *out_labels = NULL;
    *out_n = 0;
    CCH_RETURN_IF(cch_json_expect(id2label, CCH_JSON_OBJECT, err));
    if (n < 1 || n > CCH_MAX_LABELS)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "%s has %zu labels, expected 1 to %d", cch_json_where(id2label, where), n,
                 CCH_MAX_LABELS);
    CCH_RETURN_IF(check_labels(id2label, n, &bytes, err));
    CCH_RETURN_IF(new_labels(n, bytes, &labels, &text, err));
    while (cch_json_next(&it, &key, &key_len, &value)) {
        label_index(key, key_len, n, &index);
        cch_status status = cch_json_get_string(value, &name, &len, err);
        if (status != CCH_OK) {
            cch_free(labels);
            return status;
        }
        labels[index] = text;
        memcpy(text, name, len + 1);
        text += len + 1;
    }
    *out_labels = labels;
    *out_n = (int32_t)n;
    return CCH_OK;
}

cch_status cch_labels_number(int32_t n, char ***out_labels, int32_t *out_n, cch_error *err) {
    enum { NAME_BYTES = sizeof "LABEL_-2147483648" };
    char **labels, *text;
    *out_labels = NULL;
    *out_n = 0;
    CCH_RETURN_IF(new_labels((size_t)n, (size_t)n * NAME_BYTES, &labels, &text, err));
    for (int32_t i = 0; i < n; i++) {
        labels[i] = text + (size_t)i * NAME_BYTES;
        snprintf(labels[i], NAME_BYTES, "LABEL_%d", i);
    }
    *out_labels = labels;
    *out_n = n;
    return CCH_OK;
}
