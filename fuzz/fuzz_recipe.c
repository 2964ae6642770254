/* Any text is refused with a message, or is a recipe that writes and reads back the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quant/recipe_yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct ht_recipe r, again;
    ht_err err = {0};
    struct ht_buf out;
    if (ht_recipe_parse((const char *)data, size, "fuzz", &r, &err) != HT_OK) {
        if (err.msg[0] == '\0') {
            abort();
        }
        return 0;
    }
    ht_buf_init(&out, 0);
    ht_recipe_write(&r, &out);
    if (!ht_buf_ok(&out) || ht_recipe_parse(out.data, out.len, "again", &again, &err) != HT_OK ||
        !ht_recipe_equal(&r, &again)) {
        abort();
    }
    ht_buf_deinit(&out);
    return 0;
}
