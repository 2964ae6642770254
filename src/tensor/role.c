#include "tensor/role.h"

#include <strings.h>

static const struct {
    const char *name;
    int quantizable;
} rows[] = {
#define ROLE_ROW(name, text, quantizable) {text, quantizable},
    HT_ROLE_LIST(ROLE_ROW)
#undef ROLE_ROW
};

const char *ht_role_name(enum ht_role role) {
    return rows[role].name;
}

int ht_role_quantizable(enum ht_role role) {
    return rows[role].quantizable;
}

enum ht_role ht_role_bias(enum ht_role role) {
    static const enum ht_role bias[HT_ROLES] = {
        [HT_ROLE_ATTN_Q] = HT_ROLE_ATTN_Q_BIAS,
        [HT_ROLE_ATTN_K] = HT_ROLE_ATTN_K_BIAS,
        [HT_ROLE_ATTN_V] = HT_ROLE_ATTN_V_BIAS,
        [HT_ROLE_ATTN_OUTPUT] = HT_ROLE_ATTN_OUTPUT_BIAS,
        [HT_ROLE_FFN_GATE] = HT_ROLE_FFN_GATE_BIAS,
        [HT_ROLE_FFN_UP] = HT_ROLE_FFN_UP_BIAS,
        [HT_ROLE_FFN_DOWN] = HT_ROLE_FFN_DOWN_BIAS,
    };
    return bias[role]; /* OTHER is 0 */
}

enum ht_role ht_role_find(const char *name) {
    int i = 0;
    while (i < HT_ROLES && strcasecmp(rows[i].name, name) != 0) {
        i++;
    }
    return (enum ht_role)i;
}

const char *ht_role_name_at(const void *unused, size_t i) {
    (void)unused;
    return rows[i].name;
}
