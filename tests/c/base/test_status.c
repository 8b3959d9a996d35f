#include "base/status.h"

#include "check.h"

TEST(every_code_has_a_name_and_a_text) {
    CHECK(strcmp(cch_status_name(CCH_OK), "OK") == 0);
    CHECK(strcmp(cch_status_name(CCH_E_TOKEN_ID), "E_TOKEN_ID") == 0);
    CHECK(strcmp(cch_status_text(CCH_E_MEMORY), "memory could not be had") == 0);
    CHECK(strcmp(cch_status_name((cch_status)999), "E_UNKNOWN") == 0);
    CHECK(strcmp(cch_status_text((cch_status)-1), "unknown status") == 0);
}

TEST(a_failure_is_told_in_full) {
    cch_error err;
    CHECK_EQ(cch_fail(&err, CCH_E_IO, "here", 17, "%s: %d", "file", 3), CCH_E_IO);
    CHECK_EQ(err.code, CCH_E_IO);
    CHECK_EQ(err.position, 17);
    CHECK(strcmp(err.function, "here") == 0 && strcmp(err.message, "file: 3") == 0);
    CHECK_EQ(cch_fail(NULL, CCH_E_IO, "here", 17, "%s", "nobody listens"), CCH_E_IO);
}

TEST(a_long_message_ends_between_characters) {
    const char *const characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < 4; c++) {
        for (size_t shift = 0; shift < 4; shift++) {
            char text[1000] = "";
            cch_error err;
            size_t size = strlen(characters[c]);
            memset(text, 'x', shift);
            for (size_t at = shift; at + 4 < sizeof text; at += size) memcpy(text + at, characters[c], size);
            cch_fail(&err, CCH_E_IO, "", 0, "%s", text);
            size_t len = strlen(err.message);
            CHECK(len <= sizeof err.message - 1 && len + size > sizeof err.message - 1);
            CHECK_EQ((len - shift) % size, 0);
        }
    }
}

static cch_status half(int n, int *out, cch_error *err) {
    cch_status status = CCH_OK;
    *out = 0;
    if (n % 2 != 0) CCH_THROW(err, CCH_E_ARGUMENT, n, "%d is odd", n);
    *out = n / 2;
done:
    return status;
}

static cch_status quarter(int n, int *out, cch_error *err) {
    cch_status status = CCH_OK;
    CCH_TRY(half(n, out, err));
    CCH_TRY(half(*out, out, err));
done:
    return status;
}

TEST(macros_stop_at_the_first_failure) {
    cch_error err;
    int out;
    CHECK_OK(quarter(8, &out, &err), err);
    CHECK_EQ(out, 2);
    CHECK_STATUS(quarter(6, &out, &err), CCH_E_ARGUMENT, err, "3 is odd");
    CHECK(strcmp(err.function, "half") == 0 && err.position == 3);
}

CHECK_MAIN()
