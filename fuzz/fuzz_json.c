/* Any bytes as JSON. What is accepted is printed and read again: the same value, and no deeper than the cap. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned depth(const json_t *v) {
    unsigned most = 0;
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_object(v)) {
        json_object_foreach((json_t *)(uintptr_t)v, key, item) {
            unsigned d = depth(item);
            most = d > most ? d : most;
        }
        return most + 1;
    }
    if (json_is_array(v)) {
        json_array_foreach(v, i, item) {
            unsigned d = depth(item);
            most = d > most ? d : most;
        }
        return most + 1;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *json, *again;
    ht_err err = {0};
    unsigned cap = size != 0 && data[0] % 2 == 0 ? 4 : 64;
    if (ht_json_parse((const char *)data, size, cap, "input", &json, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0' || json != NULL) {
            abort();
        }
        return 0;
    }
    if (depth(json) > cap) {
        abort();
    }
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text != NULL) {
        if (ht_json_parse(text, strlen(text), 64, "again", &again, &err) != HT_OK || !json_equal(json, again)) {
            abort();
        }
        json_decref(again);
        free(text);
    }
    json_decref(json);
    return 0;
}
