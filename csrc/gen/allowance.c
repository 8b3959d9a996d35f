#include "gen/allowance.h"

enum { EARNED = CCH_ALLOWANCE_PASS / 64, MOST = 3 * CCH_ALLOWANCE_PASS, OWED = CCH_ALLOWANCE_PASS, MEMORY = 4 };

bool cch_allowance_left(const cch_allowance *allowance, int32_t n_rows) {
    return n_rows <= CCH_ALLOWANCE_ROWS && allowance->plain_ns[n_rows] > 0 && allowance->balance >= -OWED;
}

static void add(cch_allowance *allowance, int64_t part) {
    allowance->balance += part;
    if (allowance->balance > MOST) allowance->balance = MOST;
}

void cch_allowance_pass(cch_allowance *allowance, int32_t n_rows, bool guesses, int64_t ns) {
    if (n_rows > CCH_ALLOWANCE_ROWS) return;
    int64_t *plain = &allowance->plain_ns[n_rows], longer = ns - *plain;
    add(allowance, EARNED);
    if (*plain == 0) {
        *plain = ns;
        return;
    }
    if (longer > *plain) longer = *plain;
    if (guesses)
        add(allowance, -(longer * CCH_ALLOWANCE_PASS / *plain));
    else
        *plain += longer / MEMORY;
}

void cch_allowance_right(cch_allowance *allowance, int32_t n_rows) { add(allowance, CCH_ALLOWANCE_PASS / n_rows); }
