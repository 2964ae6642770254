/* Identity of models: which file, and which model whatever the file. */
#ifndef HT_FLOW_FLOW_HASH_H
#define HT_FLOW_FLOW_HASH_H

#include "base/context.h"
#include "base/file.h"
#include "model/arch.h"

/* XXH3-64 of the files' bytes, one behind the other, as hex. SHA-256 would cost more than a fast format's whole
 * encoding (measured: 0.2 of 0.9 CPU seconds for Q8_0 of 135 M weights). */
ht_status ht_flow_hash_files(struct ht_context *ctx, const char *name, const struct ht_mapping *maps, size_t n,
                             char hex[17], ht_err *err);

/* XXH3-64 of the layers' norms in f32: the same for every container and every format of the weights, other for another
 * model (but for tunings that leave the norms alone). bindings: [source->n_tensors]. HT_NOMEM. */
ht_status ht_flow_hash_norms(const struct ht_source *source, const struct ht_binding *bindings, char hex[17],
                             ht_err *err);

#endif
