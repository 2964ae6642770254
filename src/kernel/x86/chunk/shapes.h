/* The chunk shapes, X(format, chunk function suffix, pieces, group, offset, chained, bytes of 256 weights).
 */
#ifndef HT_KERNEL_X86_SHAPES_H
#define HT_KERNEL_X86_SHAPES_H

/* Vector v, lane l -> piece. */
#define HT_PIECES_NIBBLE32                                                                                   \
    { 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15 }
#define HT_PIECES_NIBBLE64                                                                                   \
    { 0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15 }
#define HT_PIECES_PAIRS                                                                                      \
    { 0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15 }
#define HT_PIECES_QUADS                                                                                      \
    { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 }
#define HT_PIECES_NATURAL                                                                                    \
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }

/* shape_<name> from the fields of struct ht_chunk_shape. */
#define HT_SHAPE(name, ...) static const struct ht_chunk_shape shape_##name = {__VA_ARGS__}

#define HT_CHUNK_LIST(X)                                                                                     \
    X(q4_0, HT_PIECES_NIBBLE32, 32, 8, true, 8 * 18)                                                         \
    X(q4_1, HT_PIECES_NIBBLE32, 32, 0, true, 8 * 20)                                                         \
    X(q5_0, HT_PIECES_NIBBLE32, 32, 16, true, 8 * 22)                                                        \
    X(q5_1, HT_PIECES_NIBBLE32, 32, 0, true, 8 * 24)                                                         \
    X(q8_0, HT_PIECES_NATURAL, 32, 128, false, 8 * 34)                                                       \
    X(iq4_nl, HT_PIECES_NIBBLE32, 32, 128, true, 8 * 18)                                                     \
    X(iq4_xs, HT_PIECES_NIBBLE32, 32, 128, true, 136)                                                        \
    X(q2_k, HT_PIECES_PAIRS, 16, 0, false, 84)                                                               \
    X(q3_k, HT_PIECES_PAIRS, 16, 4, false, 110)                                                              \
    X(q4_k, HT_PIECES_NIBBLE64, 32, 0, false, 144)                                                           \
    X(q5_k, HT_PIECES_NIBBLE64, 32, 0, false, 176)                                                           \
    X(q6_k, HT_PIECES_NATURAL, 16, 32, false, 210)                                                           \
    X(mxfp4, HT_PIECES_NIBBLE32, 32, 12, true, 8 * 17)                                                       \
    X(nvfp4, HT_PIECES_NIBBLE32, 16, 12, false, 4 * 36)                                                      \
    X(q1_0, HT_PIECES_NATURAL, 32, 1, false, 2 * 18)                                                         \
    X(q2_0, HT_PIECES_QUADS, 32, 1, true, 4 * 18)                                                            \
    X(tq1_0, HT_PIECES_NATURAL, 32, 1, false, 54)                                                            \
    X(tq2_0, HT_PIECES_PAIRS, 32, 1, false, 66)                                                              \
    X(iq1_s, HT_PIECES_NATURAL, 32, 64, false, 50)                                                           \
    X(iq1_m, HT_PIECES_NATURAL, 16, 64, false, 56)                                                           \
    X(iq2_xxs, HT_PIECES_NATURAL, 32, 64, false, 66)                                                         \
    X(iq2_xs, HT_PIECES_NATURAL, 16, 64, false, 74)                                                          \
    X(iq2_s, HT_PIECES_NATURAL, 16, 64, false, 82)                                                           \
    X(iq3_xxs, HT_PIECES_NATURAL, 32, 64, false, 98)                                                         \
    X(iq3_s, HT_PIECES_NATURAL, 32, 64, false, 110)

#endif
