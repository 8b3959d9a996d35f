/* Names of a classifier's outputs: what an object gives, what is counted, what is refused. */
#include "io/labels.h"

#include <string.h>

#include "base/alloc.h"
#include "check.h"

static cch_status read_text(const char *text, char ***labels, int32_t *n, cch_error *err) {
    cch_json_doc *doc = NULL;
    CCH_RETURN_IF(cch_json_parse(text, strlen(text), "c", CCH_JSON_DEPTH, &doc, err));
    cch_status status = cch_labels_read(cch_json_root(doc), labels, n, err);
    cch_json_close(doc);
    return status;
}

TEST(labels_stand_at_their_numbers) {
    char **labels;
    cch_error err;
    int32_t n;
    CHECK_STATUS(read_text("{\"1\":\"\",\"2\":\"caf\\u00e9\",\"0\":\"no\"}", &labels, &n, &err), CCH_OK, err, "");
    CHECK_EQ(n, 3);
    CHECK(strcmp(labels[0], "no") == 0 && strcmp(labels[1], "") == 0 && strcmp(labels[2], "caf\xC3\xA9") == 0);
    cch_free(labels);
}

TEST(labels_are_counted) {
    char **labels;
    cch_error err;
    int32_t n;
    CHECK_STATUS(cch_labels_number(CCH_MAX_LABELS, &labels, &n, &err), CCH_OK, err, "");
    CHECK_EQ(n, CCH_MAX_LABELS);
    CHECK(strcmp(labels[0], "LABEL_0") == 0 && strcmp(labels[65535], "LABEL_65535") == 0);
    cch_free(labels);
}

static void refused(const char *text, cch_status status, const char *message) {
    char **labels = (char **)(void *)"";
    cch_error err;
    int32_t n = 7;
    CHECK_STATUS(read_text(text, &labels, &n, &err), status, err, message);
    CHECK(labels == NULL && n == 0);
}

TEST(only_the_numbers_from_zero_are_keys) {
    refused("{}", CCH_E_FORMAT, "has 0 labels, expected 1 to 65536");
    refused("[\"no\"]", CCH_E_FORMAT, "is an array of 1, expected an object");
    refused("{\"0\":\"no\",\"2\":\"yes\"}", CCH_E_FORMAT, "has the key \"2\", expected the numbers 0 to 1");
    refused("{\"0\":\"no\",\"00\":\"yes\"}", CCH_E_FORMAT, "the key \"00\"");
    refused("{\"0\":\"no\",\"+1\":\"yes\"}", CCH_E_FORMAT, "the key \"+1\"");
    refused("{\"no\":0}", CCH_E_FORMAT, "the key \"no\", expected the numbers 0 to 0");
    refused("{\"\":\"no\"}", CCH_E_FORMAT, "the key \"\"");
    refused("{\"4294967296\":\"no\"}", CCH_E_FORMAT, "the key \"4294967296\"");
}

TEST(only_texts_without_nul_are_names) {
    refused("{\"0\":0}", CCH_E_FORMAT, "0 is 0, expected a string");
    refused("{\"0\":\"a\\u0000b\"}", CCH_E_UNSUPPORTED, "supported: names without NUL");
}

static cch_status read_and_count(void) {
    char **labels = NULL;
    cch_error err;
    int32_t n;
    cch_status status = read_text("{\"0\":\"no\",\"1\":\"yes\"}", &labels, &n, &err);
    cch_free(labels);
    if (status != CCH_OK) return status;
    status = cch_labels_number(2, &labels, &n, &err);
    cch_free(labels);
    return status;
}

TEST(no_memory) { CHECK_OOM(read_and_count()); }

CHECK_MAIN()
