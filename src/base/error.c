#include "base/error.h"

#include <errno.h>
#include <stdio.h>

const char *ht_status_text(ht_status status) {
    switch (status) {
#define HT_STATUS_CASE(name, code, exit_code, text) \
    case HT_##name:                                 \
        return text;
        HT_STATUS_LIST(HT_STATUS_CASE)
#undef HT_STATUS_CASE
    }
    return "unknown status";
}

int ht_status_exit_code(ht_status status) {
    switch (status) {
#define HT_STATUS_CASE(name, code, exit_code, text) \
    case HT_##name:                                 \
        return exit_code;
        HT_STATUS_LIST(HT_STATUS_CASE)
#undef HT_STATUS_CASE
    }
    return 1;
}

#define HT_STR2(x) #x
#define HT_STR(x) HT_STR2(x)

const char *ht_version(void) {
    return HT_STR(HT_VERSION_MAJOR) "." HT_STR(HT_VERSION_MINOR) "." HT_STR(HT_VERSION_PATCH);
}

/* Messages quote names from files, and end up on terminals: no escape sequences, no line breaks. */
static void mask_controls(char *s) {
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7F) {
            *s = '?';
        }
    }
}

ht_status ht_fail_v(ht_err *err, ht_status code, const char *what, uint64_t pos, const char *fmt,
                    va_list args) {
    if (err == NULL || err->code != HT_OK) {
        return code;
    }
    err->code = code;
    err->pos = pos;
    err->what[0] = '\0';
    if (what != NULL) {
        /* A long path keeps its tail: the file name says more than the root. */
        size_t len = strlen(what);
        const char *from = what;
        if (len >= sizeof err->what) {
            from = what + (len - (sizeof err->what - 4));
            snprintf(err->what, sizeof err->what, "...%s", from);
        } else {
            memcpy(err->what, what, len + 1);
        }
    }
    vsnprintf(err->msg, sizeof err->msg, fmt, args);
    mask_controls(err->what);
    mask_controls(err->msg);
    return code;
}

ht_status ht_fail(ht_err *err, ht_status code, const char *what, uint64_t pos, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    ht_fail_v(err, code, what, pos, fmt, args);
    va_end(args);
    return code;
}

ht_status ht_fail_errno(ht_err *err, int errnum, const char *what, const char *action) {
    static const struct {
        int errnum;
        ht_status status;
    } table[] = {
        {ENOENT, HT_NOTFOUND}, {ENOTDIR, HT_NOTFOUND}, {EEXIST, HT_EXISTS}, {ENOSPC, HT_NOSPACE},
        {EDQUOT, HT_NOSPACE},  {EFBIG, HT_NOSPACE},    {ENOMEM, HT_NOMEM},  {EINVAL, HT_IO},
    };
    ht_status status = HT_IO;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].errnum == errnum) {
            status = table[i].status;
        }
    }
    char text[128];
    /* XSI strerror_r through the portable spelling: strerror is not thread safe. */
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    const char *s = strerror_r(errnum, text, sizeof text);
#else
    const char *s = strerror_r(errnum, text, sizeof text) == 0 ? text : "unknown error";
#endif
    return ht_fail(err, status, what, HT_NO_POS, "cannot %s: %s", action, s);
}

ht_status ht_fail_nomem(ht_err *err, uint64_t bytes) {
    return ht_fail(err, HT_NOMEM, NULL, HT_NO_POS, "out of memory: %llu bytes could not be allocated",
                   (unsigned long long)bytes);
}

void ht_err_clear(ht_err *err) {
    if (err != NULL) {
        memset(err, 0, sizeof *err);
        err->pos = HT_NO_POS;
    }
}
