/* status - how the core reports failure.
 *
 * A function that can fail has one shape: owners NULL at the top, CCH_TRY(call) jumps to `done:`, one exit frees what
 * is still owned, success moves the pointer to *out and sets the local to NULL:
 *
 *     cch_status status = CCH_OK;
 *     cch_thing *t = NULL;
 *     CCH_TRY(cch_thing_new(&t, err));
 *     if (n > LIMIT) CCH_THROW(err, CCH_E_ARGUMENT, n, "n is %d, allowed: at most %d", n, LIMIT);
 *     *out = t; t = NULL;
 *   done:
 *     cch_thing_free(t);
 *     return status;
 */
#ifndef CCH_BASE_STATUS_H
#define CCH_BASE_STATUS_H

#include "include/cacher.h"

/* Fills *err (may be NULL) and returns `status`.  The message is cut to fit, never past a UTF-8 character. */
cch_status cch_fail(cch_error *err, cch_status status, const char *function, int64_t position, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Return with an error: for functions that own nothing. */
#define CCH_FAIL(err, code, position, ...) return cch_fail((err), (code), __func__, (int64_t)(position), __VA_ARGS__)

/* Jump to `done:` with an error / when a call failed.  Need a local `cch_status status`. */
#define CCH_THROW(err, code, position, ...)                                              \
    do {                                                                                 \
        status = cch_fail((err), (code), __func__, (int64_t)(position), __VA_ARGS__);    \
        goto done;                                                                       \
    } while (0)
#define CCH_TRY(call)                     \
    do {                                  \
        status = (call);                  \
        if (status != CCH_OK) goto done;  \
    } while (0)
/* The same where nothing is owned yet. */
#define CCH_RETURN_IF(call)                       \
    do {                                          \
        cch_status s_ = (call);                   \
        if (s_ != CCH_OK) return s_;              \
    } while (0)

#endif
