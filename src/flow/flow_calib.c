#include "flow/flow_calib.h"

#include <stdio.h>

bool ht_flow_calib_short(const json_t *record, char *words, size_t len) {
    json_int_t asked = json_integer_value(json_object_get(record, "asked_tokens"));
    json_int_t tokens = json_integer_value(json_object_get(record, "tokens"));
    json_int_t window = json_integer_value(json_object_get(record, "window"));
    if (asked == 0 || window == 0 || tokens >= asked / window * window) {
        return false;
    }
    snprintf(words, len, "calibration text is shorter than asked: %lld of %lld tokens", (long long)tokens,
             (long long)asked);
    return true;
}
