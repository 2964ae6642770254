/* Rows of q and k by halves. GGUF files of some architectures keep the rows of a head as pairs that turn together,
 * Hugging Face folders as halves. What is solved row by row may be moved afterwards; what stands for neighbouring rows
 * together (nested scales) may not, and sums over a head come out the same to the last bit in one order only. So a
 * model read from such a file can be made one of a folder, layer by layer: only the layer in work is held twice. */
#ifndef HT_MODEL_ROW_ORDER_H
#define HT_MODEL_ROW_ORDER_H

#include "model/model.h"

struct ht_row_order {
    void *rows[HT_ROLES]; /* matrices of one layer, by halves, in their stored form; or NULL */
};

/* Whether the model keeps pairs: it computes with halves from now on. Every layer must then pass through
 * ht_row_order_layer before it is run. */
bool ht_row_order_begin(struct ht_model *model);
/* Matrices of the layer that are kept by pairs become copies by halves, held by o, which is empty; biases change in
 * place. Once per layer; whoever needs the matrices as they were keeps the layer's linears. HT_NOMEM: o is to be
 * released all the same. */
ht_status ht_row_order_layer(struct ht_row_order *o, const struct ht_model *model, struct ht_layer *layer, ht_err *err);
void ht_row_order_deinit(struct ht_row_order *o); /* empty is fine; it is empty afterwards */

#endif
