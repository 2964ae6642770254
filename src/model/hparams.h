/* Hyper-parameters, inside model/: one table of counts serves reading and writing of both containers. */
#ifndef HT_MODEL_HPARAMS_H
#define HT_MODEL_HPARAMS_H

#include "model/arch.h"

enum ht_hparam_flag {
    HT_HPARAM_OPTIONAL = 1, /* may be absent: hparams_finish derives it */
    HT_HPARAM_PER_LAYER = 2 /* GGUF files may hold one value per layer; all must be equal */
};

struct ht_hparam {
    const char *gguf; /* key behind "ARCH." */
    const char *hf;   /* key of config.json; NULL: none */
    size_t offset;    /* of a uint32_t in struct ht_hparams */
    uint32_t max;
    unsigned flags;
};

size_t ht_hparam_count(void);
const struct ht_hparam *ht_hparam_at(size_t i);

static inline uint32_t *ht_hparam_field(struct ht_hparams *hp, const struct ht_hparam *p) {
    return (uint32_t *)(void *)((char *)hp + p->offset);
}

static inline uint32_t ht_hparam_value(const struct ht_hparams *hp, const struct ht_hparam *p) {
    return *(const uint32_t *)(const void *)((const char *)hp + p->offset);
}

/* Fill hp from one kind of source; counts that are absent stay 0. */
ht_status ht_hparams_from_gguf(const struct ht_source *source, const struct ht_arch **arch,
                               struct ht_hparams *hp, ht_err *err);
ht_status ht_hparams_from_config(const struct ht_source *source, const struct ht_arch **arch,
                                 struct ht_hparams *hp, ht_err *err);

/* An architecture by the name that a source gives, or HT_UNSUPPORTED with the known and the nearest names.
 * name_of: which of the row's names is meant. */
ht_status ht_arch_known(const char *name, const char *key, const char *(*name_of)(const struct ht_arch *arch),
                        const char *what, const struct ht_arch **arch, ht_err *err);

#endif
