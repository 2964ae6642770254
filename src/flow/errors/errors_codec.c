#include "flow/errors.h"

#include "base/mem.h"
#include "base/nearest.h"

ht_status ht_codec_parse(const char *text, struct ht_codec *codec, ht_err *err) {
    char near[128];
    *codec = (struct ht_codec){.format = ht_format_find(text)};
    if (codec->format == NULL) {
        ht_nearest(text, ht_format_name_at, NULL, ht_format_count(), near, sizeof near);
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "no format is called '%.64s'%s%s", text,
                       near[0] != '\0' ? "; did you mean " : "", near);
    }
    if (codec->format->kind == HT_KIND_INT || codec->format->kind == HT_KIND_CODE) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "weights are not stored as %s alone", codec->format->name);
    }
    snprintf(codec->name, sizeof codec->name, "%s", codec->format->name);
    return HT_OK;
}

bool ht_codec_fits(const struct ht_codec *codec, uint64_t cols) {
    return cols % codec->format->block_elems == 0;
}

double ht_codec_bits(const struct ht_codec *codec, uint64_t rows, uint64_t cols) {
    (void)rows;
    (void)cols;
    return ht_format_bits(codec->format);
}

const char *ht_codec_group(const struct ht_codec *codec) {
    switch (codec->format->kind) {
    case HT_KIND_FLOAT: return "floats";
    case HT_KIND_BLOCK: return "blocks with a scale";
    case HT_KIND_KBLOCK: return "blocks with sub-scales";
    case HT_KIND_LUT: return "tables of levels";
    case HT_KIND_LATTICE: return "lattices";
    default: return "codes with scales";
    }
}

ht_status ht_codec_room_init(struct ht_codec_room *room, uint64_t cols, ht_err *err) {
    *room = (struct ht_codec_room){.y = ht_mem_alloc_array(cols, sizeof *room->y),
                                   .cell = ht_mem_alloc_array(cols, sizeof *room->cell),
                                   .bytes = ht_mem_alloc_array(cols, 8)};
    return room->y == NULL || room->cell == NULL || room->bytes == NULL ? ht_fail_nomem(err, cols * 16) : HT_OK;
}

void ht_codec_room_deinit(struct ht_codec_room *room) {
    ht_mem_free(room->y);
    ht_mem_free(room->cell);
    ht_mem_free(room->bytes);
}

void ht_codec_rows(const struct ht_codec *codec, const float *x, uint64_t rows, uint64_t cols,
                   struct ht_codec_room *room, struct ht_error_sums *sums) {
    const struct ht_format *f = codec->format;
    bool cells = ht_error_knows_cells(f);
    for (uint64_t r = 0; r < rows; r++, x += cols) {
        f->encode(x, NULL, room->bytes, cols);
        f->decode(room->bytes, room->y, cols);
        if (cells) {
            ht_error_cells(f, room->bytes, x, cols, room->cell);
        }
        ht_error_add(sums, x, room->y, cells ? room->cell : NULL, cols);
    }
}
