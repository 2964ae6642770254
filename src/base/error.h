/* Errors inside the library: fill an ht_err, forward a status.
 * Messages say what was expected, what was found, where, and the way out:
 *   ht_fail(err, HT_FORMAT, path, offset, "tensor '%s': row of %llu is not a multiple of block %u; ...") */
#ifndef HT_BASE_ERROR_H
#define HT_BASE_ERROR_H

#include <stdarg.h>
#include <string.h>

#include "base/compiler.h"
#include "halftone.h"

/* Sets *err (may be NULL) unless it already holds an error, and returns code.
 * what: file, tensor or option; may be NULL. pos: byte offset or HT_NO_POS. */
ht_status ht_fail(ht_err *err, ht_status code, const char *what, uint64_t pos, const char *fmt, ...)
    HT_PRINTF(5, 6);
ht_status ht_fail_v(ht_err *err, ht_status code, const char *what, uint64_t pos, const char *fmt, va_list args);

/* From errno: maps ENOENT, EEXIST, ENOSPC/EDQUOT/EFBIG, ENOMEM ... and appends strerror's text. */
ht_status ht_fail_errno(ht_err *err, int errnum, const char *what, const char *action);

ht_status ht_fail_nomem(ht_err *err, uint64_t bytes);

/* Empties *err so that it can be reused; NULL is fine. */
void ht_err_clear(ht_err *err);

#define HT_TRY(expr)                     \
    do {                                 \
        ht_status ht_try_ = (expr);      \
        if (ht_try_ != HT_OK) {          \
            return ht_try_;              \
        }                                \
    } while (0)

/* Forward to a `done:` label; needs a local `ht_status status`. */
#define HT_TRY_DONE(expr)        \
    do {                         \
        status = (expr);         \
        if (status != HT_OK) {   \
            goto done;           \
        }                        \
    } while (0)

#endif
