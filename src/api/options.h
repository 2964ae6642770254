/* Options of the public calls: every struct starts with its size, so that a caller built against an older header,
 * whose struct is shorter, gets today's defaults for the rest. */
#ifndef HT_API_OPTIONS_H
#define HT_API_OPTIONS_H

#include "base/error.h"

/* full: `size` bytes that hold the defaults; given: the caller's struct or NULL. Copies what the caller has.
 * HT_INVAL when its size field is no size of this struct. */
ht_status ht_options_take(void *full, size_t size, const void *given, ht_err *err);

/* HT_INVAL naming the argument when it is NULL (or an empty string). */
ht_status ht_need(const void *argument, const char *name, ht_err *err);
ht_status ht_need_text(const char *argument, const char *name, ht_err *err);

#endif
