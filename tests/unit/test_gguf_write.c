#include "test.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "io/container.h"
#include "io/gguf.h"
#include "io_build.h"

#define HEAD(n_tensors, n_kv) "t:GGUF w4:3 w8:" #n_tensors " w8:" #n_kv " "

/* A canonical file as the specification lays it out: written by hand here, must come out of the writer again. */
#define CANONICAL                                                                                              \
    HEAD(3, 8) "s:general.architecture w4:8 s:llama s:a.i8 w4:1 w1:-5 s:a.i64 w4:11 w8:-9000000000 "            \
    "s:a.f32 w4:6 f4:0.1 s:a.f64 w4:12 f8:0.1 s:a.strs w4:9 w4:8 w8:2 s:one w8:0 s:a.ints w4:9 w4:3 w8:3 w2:-1 w2:7 w2:9 " \
    "s:a.bools w4:9 w4:7 w8:2 x:0100 "                                                                         \
    "s:norm w4:1 w8:3 w4:0 w8:0 s:w w4:2 w8:64 w8:2 w4:8 w8:32 s:scalar w4:0 w4:1 w8:192 "                     \
    "p:32 f4:1 f4:2 f4:3 p:32 r:136:7 p:32 x:003c p:32"

static struct ht_gguf parsed(const struct bytes *b) {
    struct ht_gguf g;
    ht_err err = {0};
    ASSERT_OK(ht_gguf_parse(b->p, b->n, "file", &g, &err), &err);
    return g;
}

static ht_status write_all(const char *path, const struct ht_gguf *g, uint64_t shard_bytes, bool overwrite, size_t piece,
                           ht_err *err) {
    struct ht_gguf_writer *w;
    HT_TRY(ht_gguf_writer_new(path, &g->meta, g->tensors, g->n_tensors, shard_bytes, overwrite, &w, err));
    for (size_t i = 0; i < g->n_tensors; i++) {
        for (uint64_t at = 0; at < g->tensors[i].bytes; at += piece) {
            uint64_t n = g->tensors[i].bytes - at < piece ? g->tensors[i].bytes - at : piece;
            ht_status status = ht_gguf_writer_tensor(w, (const char *)g->tensors[i].data + at, n, err);
            if (status != HT_OK) {
                ht_gguf_writer_abort(w);
                return status;
            }
        }
    }
    return ht_gguf_writer_commit(w, err);
}

static void round_trip(void **state) {
    (void)state;
    char dir[64];
    temp_dir(dir);
    const char *path = in(dir, "out.gguf");
    static const char *const scripts[] = {
        CANONICAL,
        HEAD(0, 0) "p:32",
        HEAD(2, 1) "s:general.alignment w4:4 w4:256 s:x w4:1 w8:1 w4:0 w8:0 s:y w4:1 w8:1 w4:0 w8:256 p:256 f4:1 p:256 f4:2 p:256",
        HEAD(1, 1) "s:general.alignment w4:4 w4:8 s:x w4:1 w8:1 w4:0 w8:0 p:8 f4:1 p:8",
    };
    static const size_t pieces[] = {1, 5, 1000};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        for (size_t k = 0; k < 3; k++) {
            struct bytes b = build(scripts[i]);
            struct ht_gguf g = parsed(&b);
            struct ht_gguf_plan plan;
            ht_err err = {0};
            ASSERT_OK(ht_gguf_plan(&g.meta, g.tensors, g.n_tensors, 0, &plan, &err), &err);
            assert_int_equal(plan.total_bytes, b.n);
            assert_int_equal(plan.largest_bytes, b.n);
            assert_int_equal(plan.n_files, 1);
            ASSERT_OK(write_all(path, &g, 0, true, pieces[k], &err), &err);
            struct bytes out = get_file(path);
            assert_same_bytes(&b, &out);
            ht_mem_free(out.p);
            ht_gguf_deinit(&g);
            free(b.p);
        }
    }
    assert_int_equal(remove_dir(dir), 1);
}

/* ---- splits ------------------------------------------------------------------------------------------ */

static struct ht_gguf many(struct bytes *b) {
    *b = build(HEAD(5, 3) "s:general.architecture w4:8 s:llama s:split.no w4:2 w2:7 s:general.name w4:8 s:many "
               "s:a w4:1 w8:64 w4:0 w8:0 s:b w4:1 w8:64 w4:0 w8:256 s:c w4:1 w8:200 w4:0 w8:512 "
               "s:d w4:1 w8:3 w4:0 w8:1312 s:e w4:1 w8:3 w4:0 w8:1344 p:32 r:256:1 r:256:2 r:800:3 r:12:4 p:32 r:12:5 p:32");
    return parsed(b);
}

static void splits(void **state) {
    (void)state;
    struct bytes b;
    struct ht_gguf g = many(&b);
    static const struct {
        uint64_t shard_bytes;
        uint32_t n_files;
    } cases[] = {{1, 5}, {300, 4}, {500, 4}, {700, 4}, {1060, 3}, {100000, 1}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char dir[64], name[64];
        struct ht_gguf_plan plan;
        struct ht_source *s;
        ht_err err = {0};
        uint64_t total = 0, largest = 0;
        temp_dir(dir);
        ASSERT_OK(ht_gguf_plan(&g.meta, g.tensors, g.n_tensors, cases[k].shard_bytes, &plan, &err), &err);
        assert_int_equal(plan.n_files, cases[k].n_files);
        ASSERT_OK(write_all(in(dir, "m.gguf"), &g, cases[k].shard_bytes, false, 100, &err), &err);
        for (uint32_t i = 0; i < plan.n_files; i++) {
            snprintf(name, sizeof name, "m-%05u-of-%05u.gguf", i + 1, plan.n_files);
            struct bytes f = get_file(in(dir, name));
            struct ht_gguf shard = parsed(&f);
            uint64_t v = 99;
            total += f.n;
            largest = f.n > largest ? f.n : largest;
            assert_true(f.n <= cases[k].shard_bytes || shard.n_tensors == 1);
            assert_int_equal(shard.trailing_bytes + shard.missing_pad_bytes, 0);
            assert_int_equal(shard.meta.n, i == 0 ? 5 : 3); /* the full metadata lie in the first only */
            ASSERT_OK(ht_meta_get_u64(&shard.meta, "split.no", 99, &v, NULL, &err), &err);
            assert_int_equal(v, i);
            ASSERT_OK(ht_meta_get_u64(&shard.meta, "split.count", 99, &v, NULL, &err), &err);
            assert_int_equal(v, plan.n_files);
            ASSERT_OK(ht_meta_get_u64(&shard.meta, "split.tensors.count", 99, &v, NULL, &err), &err);
            assert_int_equal(v, 5);
            assert_int_equal(ht_meta_find(&shard.meta, "split.no")->type, HT_META_U16);
            assert_int_equal(ht_meta_find(&shard.meta, "split.count")->type, HT_META_U16);
            assert_int_equal(ht_meta_find(&shard.meta, "split.tensors.count")->type, HT_META_I32);
            ht_gguf_deinit(&shard);
            ht_mem_free(f.p);
        }
        assert_int_equal(total, plan.total_bytes);
        assert_int_equal(largest, plan.largest_bytes);
        snprintf(name, sizeof name, "m-%05u-of-%05u.gguf", plan.n_files, plan.n_files);
        ASSERT_OK(ht_source_open(in(dir, name), &s, &err), &err);
        assert_int_equal(s->n_tensors, 5);
        for (size_t i = 0; i < 5; i++) {
            const struct ht_tensor *t = ht_source_find(s, g.tensors[i].name);
            assert_non_null(t);
            assert_memory_equal(t->data, g.tensors[i].data, t->bytes);
        }
        ht_source_close(s);
        assert_int_equal(remove_dir(dir), plan.n_files);
    }
    ht_gguf_deinit(&g);
    free(b.p);
}

/* Every shard needs the alignment when it is not the default. */
static void splits_keep_alignment(void **state) {
    (void)state;
    struct bytes b = build(HEAD(2, 1) "s:general.alignment w4:4 w4:128 s:x w4:1 w8:1 w4:0 w8:0 s:y w4:1 w8:1 w4:0 w8:128 "
                           "p:128 f4:1 p:128 f4:2 p:128");
    struct ht_gguf g = parsed(&b);
    char dir[64];
    struct ht_source *s;
    ht_err err = {0};
    temp_dir(dir);
    ASSERT_OK(write_all(in(dir, "m.gguf"), &g, 1, false, 100, &err), &err);
    struct bytes f = get_file(in(dir, "m-00002-of-00002.gguf"));
    struct ht_gguf shard = parsed(&f);
    assert_int_equal(shard.alignment, 128);
    assert_int_equal(shard.data_offset, 256);
    ht_gguf_deinit(&shard);
    ht_mem_free(f.p);
    ASSERT_OK(ht_source_open(in(dir, "m-00001-of-00002.gguf"), &s, &err), &err);
    float y;
    memcpy(&y, ht_source_find(s, "y")->data, sizeof y);
    assert_true(y == 2);
    ht_source_close(s);
    remove_dir(dir);
    ht_gguf_deinit(&g);
    free(b.p);
}

/* No shard gets its name before commit, none when the work is given up, and an existing one is not replaced. */
static void all_or_nothing(void **state) {
    (void)state;
    struct bytes b;
    struct ht_gguf g = many(&b);
    char dir[64];
    struct ht_gguf_writer *w;
    ht_err err = {0};
    temp_dir(dir);
    ASSERT_OK(ht_gguf_writer_new(in(dir, "m.gguf"), &g.meta, g.tensors, g.n_tensors, 1, false, &w, &err), &err);
    for (size_t i = 0; i < 4; i++) {
        ASSERT_OK(ht_gguf_writer_tensor(w, g.tensors[i].data, g.tensors[i].bytes, &err), &err);
        assert_false(ht_path_exists(in(dir, "m-00001-of-00005.gguf")));
    }
    /* The last tensor is missing: commit refuses. */
    check_refused("short", ht_gguf_writer_commit(w, &err), HT_INVAL, &err, "tensor 'e' got 0 of 12 bytes", "e");
    assert_int_equal(remove_dir(dir), 0);

    temp_dir(dir);
    ASSERT_OK((ht_err_clear(&err), ht_gguf_writer_new(in(dir, "m.gguf"), &g.meta, g.tensors, g.n_tensors, 1, false, &w, &err)), &err);
    ht_gguf_writer_abort(w);
    assert_int_equal(remove_dir(dir), 0);

    /* A name that appears while the files are written: those that got theirs are taken back. */
    temp_dir(dir);
    ASSERT_OK(ht_gguf_writer_new(in(dir, "m.gguf"), &g.meta, g.tensors, g.n_tensors, 1, false, &w, &err), &err);
    for (size_t i = 0; i < 5; i++) {
        ASSERT_OK(ht_gguf_writer_tensor(w, g.tensors[i].data, g.tensors[i].bytes, &err), &err);
    }
    put_text(in(dir, "m-00003-of-00005.gguf"), "mine");
    check_refused("exists", ht_gguf_writer_commit(w, &err), HT_EXISTS, &err, "", "m-00003-of-00005.gguf");
    struct bytes mine = get_file(in(dir, "m-00003-of-00005.gguf"));
    assert_int_equal(mine.n, 4);
    ht_mem_free(mine.p);
    assert_int_equal(remove_dir(dir), 1);

    temp_dir(dir);
    put_text(in(dir, "m-00005-of-00005.gguf"), "mine");
    ht_err_clear(&err);
    check_refused("exists at start", ht_gguf_writer_new(in(dir, "m.gguf"), &g.meta, g.tensors, g.n_tensors, 1, false, &w, &err),
                  HT_EXISTS, &err, "exists already", "m-00005-of-00005.gguf");
    assert_null(w);
    ht_err_clear(&err);
    ASSERT_OK(write_all(in(dir, "m.gguf"), &g, 1, true, 1000, &err), &err);
    assert_int_equal(remove_dir(dir), 5);
    ht_gguf_deinit(&g);
    free(b.p);
}

/* A process that replaces a set of five files is killed at some moment: the set that is left is the old one, the
 * new one, or none, never a mixture, and the next run cleans up and succeeds. */
static void killed(void **state) {
    (void)state;
    struct bytes b;
    struct ht_gguf g = many(&b);
    unsigned old_left = 0, new_left = 0, none_left = 0;
    ht_err err = {0};
    char dir[64], out[128], first[128];
    temp_dir(dir);
    snprintf(out, sizeof out, "%s/m.gguf", dir);
    snprintf(first, sizeof first, "%s/m-00001-of-00005.gguf", dir);
    for (unsigned i = 0; i < 20; i++) {
        double start = ht_sys_now();
        ASSERT_OK(write_all(out, &g, 1, true, 1000, &err), &err);
        double took = ht_sys_now() - start;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (size_t k = (size_t)((unsigned char *)g.tensors[0].data - b.p); k < b.n; k++) {
                b.p[k] ^= 0xff; /* the new set differs in every byte */
            }
            _exit(write_all(out, &g, 1, true, 7, &err) == HT_OK ? 0 : 1);
        }
        usleep((useconds_t)(1e6 * took * (0.2 + i / 14.0))); /* a run takes about as long as the last one */
        kill(child, SIGKILL);
        int wstatus;
        assert_int_equal(waitpid(child, &wstatus, 0), child);
        if (!ht_path_exists(first)) {
            none_left++;
            continue;
        }
        struct ht_source *s;
        ASSERT_OK(ht_source_open(first, &s, &err), &err);
        size_t same = 0;
        for (size_t k = 0; k < s->n_tensors; k++) {
            same += memcmp(s->tensors[k].data, g.tensors[k].data, s->tensors[k].bytes) == 0;
        }
        ht_source_close(s);
        assert_true(same == 0 || same == 5);
        old_left += same == 5;
        new_left += same == 0;
    }
    print_message("# 20 kills: %u old, %u new, %u none\n", old_left, new_left, none_left);
    ASSERT_OK(write_all(out, &g, 1, true, 1000, &err), &err);
    assert_int_equal(remove_dir(dir), 5);
    ht_gguf_deinit(&g);
    free(b.p);
}

/* A value that is known only when the data are out: one file, and splits whose first file is on disk already. */
static void late_values(void **state) {
    (void)state;
    for (uint64_t shard_bytes = 0; shard_bytes < 2; shard_bytes++) {
        struct bytes b = build(HEAD(2, 2) "s:general.name w4:8 s:name s:sum w4:10 w8:0 s:x w4:1 w8:1 w4:0 w8:0 "
                               "s:y w4:1 w8:1 w4:0 w8:32 p:32 f4:1 p:32 f4:2 p:32");
        struct ht_gguf g = parsed(&b);
        struct ht_gguf_writer *w;
        struct ht_source *s;
        char dir[64];
        ht_err err = {0};
        uint64_t sum = 0;
        temp_dir(dir);
        ASSERT_OK(ht_gguf_writer_new(in(dir, "m.gguf"), &g.meta, g.tensors, 2, shard_bytes, false, &w, &err), &err);
        for (size_t i = 0; i < 2; i++) {
            ASSERT_OK(ht_gguf_writer_tensor(w, g.tensors[i].data, 4, &err), &err);
        }
        ASSERT_OK(ht_meta_set_u64(&g.meta, "sum", 0x1122334455667788, &err), &err);
        ASSERT_OK(ht_gguf_writer_update(w, &g.meta, &err), &err);
        ASSERT_OK(ht_meta_set_str(&g.meta, "general.name", "longer", 6, &err), &err);
        assert_int_equal(ht_gguf_writer_update(w, &g.meta, &err), HT_INVAL);
        assert_non_null(strstr(err.msg, "the metadata changed"));
        ht_err_clear(&err);
        ASSERT_OK(ht_meta_set_str(&g.meta, "general.name", "n", 1, &err), &err); /* shorter moves the data, too */
        assert_int_equal(ht_gguf_writer_update(w, &g.meta, &err), HT_INVAL);
        ht_err_clear(&err);
        ASSERT_OK(ht_gguf_writer_commit(w, &err), &err);
        ASSERT_OK(ht_source_open(in(dir, shard_bytes ? "m-00001-of-00002.gguf" : "m.gguf"), &s, &err), &err);
        ASSERT_OK(ht_meta_get_u64(&s->meta, "sum", UINT64_MAX, &sum, NULL, &err), &err);
        assert_true(sum == 0x1122334455667788);
        assert_memory_equal(ht_source_find(s, "y")->data, g.tensors[1].data, 4);
        ht_source_close(s);
        remove_dir(dir);
        ht_gguf_deinit(&g);
        free(b.p);
    }
}

static void refuses(void **state) {
    (void)state;
    char dir[64], long_name[65];
    memset(long_name, 'x', 64);
    long_name[64] = '\0';
    temp_dir(dir);
    const struct ht_format *f32 = ht_format_find("f32"), *q8 = ht_format_find("q8_0"), *u8 = ht_format_find("u8");
    assert_non_null(u8);
    const struct {
        const char *name, *path;
        struct ht_tensor t[2];
        uint64_t shard_bytes;
        ht_status code;
        const char *part;
    } cases[] = {
        {"long name", "o.gguf", {{long_name, f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_INVAL, "is too long"},
        {"empty name", "o.gguf", {{"", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_INVAL, "is empty"},
        {"line break", "o.gguf", {{"a\nb", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_INVAL, "control character"},
        {"duplicate", "o.gguf", {{"y", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_INVAL, "two tensors are named 'y'"},
        {"no type", "o.gguf", {{"x", u8, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_UNSUPPORTED, "no type for the format u8"},
        {"row", "o.gguf", {{"x", q8, 1, {31}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_FORMAT, "a row of 31"},
        {"zero", "o.gguf", {{"x", f32, 2, {4, 0}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_FORMAT, "dimension 1 is 0"},
        {"overflow", "o.gguf", {{"x", f32, 1, {1ull << 60}, NULL, 0}, {"y", f32, 2, {1ull << 60, 7}, NULL, 0}}, 0, HT_FORMAT,
         "overflows"},
        {"sum overflow", "o.gguf", {{"x", f32, 1, {(1ull << 61) - 1}, NULL, 0}, {"y", f32, 1, {(1ull << 61) - 1}, NULL, 0}}, 0,
         HT_LIMIT, "sizes overflow"},
        {"larger than any disk", "o.gguf", {{"x", f32, 1, {1ull << 60}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_NOSPACE,
         "the output needs"},
        {"split name", "o.bin", {{"x", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 5, HT_INVAL, "must end in .gguf"},
        {"no folder", "no/o.gguf", {{"x", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, 0, HT_NOTFOUND, "cannot create"},
    };
    struct ht_meta meta;
    ht_meta_init(&meta);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_gguf_writer *w;
        ht_err err = {0};
        ht_status got = ht_gguf_writer_new(in(dir, cases[i].path), &meta, cases[i].t, 2, cases[i].shard_bytes, false, &w, &err);
        check_refused(cases[i].name, got, cases[i].code, &err, cases[i].part, NULL);
        assert_null(w);
    }
    static const struct ht_tensor x = {"x", NULL, 1, {1, 1, 1, 1}, NULL, 0};
    struct ht_tensor t = x;
    struct ht_gguf_writer *w;
    ht_err err = {0};
    t.format = f32;
    ASSERT_OK(ht_gguf_writer_new(in(dir, "o.gguf"), &meta, &t, 1, 0, false, &w, &err), &err);
    check_refused("too much", ht_gguf_writer_tensor(w, "12345", 5, &err), HT_INVAL, &err, "5 bytes, expected 4", "x");
    ht_err_clear(&err);
    ASSERT_OK(ht_gguf_writer_tensor(w, "1234", 4, &err), &err);
    check_refused("behind", ht_gguf_writer_tensor(w, "1", 1, &err), HT_INVAL, &err, "behind the last tensor", "o.gguf");
    ht_gguf_writer_abort(w);
    ht_err_clear(&err);
    ASSERT_OK(ht_meta_set_u32(&meta, "general.alignment", 48, &err), &err);
    check_refused("alignment", ht_gguf_writer_new(in(dir, "o.gguf"), &meta, &t, 1, 0, false, &w, &err), HT_INVAL, &err,
                  "general.alignment", NULL);
    ht_meta_deinit(&meta);
    assert_int_equal(remove_dir(dir), 0);
}

static void out_of_memory(void **state) {
    (void)state;
    struct bytes b;
    struct ht_gguf g = many(&b);
    char dir[64];
    temp_dir(dir);
    uint64_t n = 1;
    for (;; n++) {
        ht_err err = {0};
        ht_mem_fail_at(n, 0);
        ht_status got = write_all(in(dir, "m.gguf"), &g, 600, true, 1000, &err);
        ht_mem_fail_at(0, 0);
        if (got == HT_OK) {
            break;
        }
        assert_int_equal(got, HT_NOMEM);
        assert_false(ht_path_exists(in(dir, "m-00001-of-00004.gguf")));
    }
    assert_true(n > 20);
    assert_int_equal(remove_dir(dir), 4);
    ht_gguf_deinit(&g);
    free(b.p);
}

/* Files of gguf-py and llama-gguf-split (tests/oracle/io_golden.py made them): the writer gives the same bytes. */
static void golden(void **state) {
    (void)state;
    struct ht_source *s;
    struct ht_gguf g;
    ht_err err = {0};
    struct bytes whole = get_file(HT_TEST_DIR "/golden/io/gguf-py.gguf");
    g = parsed(&whole);
    char dir[64];
    temp_dir(dir);
    ASSERT_OK(write_all(in(dir, "m.gguf"), &g, 0, false, 777, &err), &err);
    struct bytes out = get_file(in(dir, "m.gguf"));
    assert_same_bytes(&whole, &out);
    ht_mem_free(out.p);

    /* Cut to the size that makes our shards hold the same tensors as stock's. */
    struct bytes first = get_file(HT_TEST_DIR "/golden/io/stock-00001-of-00002.gguf");
    ASSERT_OK(write_all(in(dir, "m.gguf"), &g, first.n, false, 777, &err), &err);
    ht_mem_free(first.p);
    ASSERT_OK(ht_source_open(HT_TEST_DIR "/golden/io/stock-00001-of-00002.gguf", &s, &err), &err);
    assert_int_equal(s->n_maps, 2);
    assert_int_equal(s->n_tensors, g.n_tensors);
    ht_source_close(s);
    for (int i = 1; i <= 2; i++) {
        char mine[64], theirs[256];
        snprintf(mine, sizeof mine, "m-%05d-of-00002.gguf", i);
        snprintf(theirs, sizeof theirs, HT_TEST_DIR "/golden/io/stock-%05d-of-00002.gguf", i);
        struct bytes x = get_file(in(dir, mine)), y = get_file(theirs);
        assert_same_bytes(&x, &y);
        ht_mem_free(x.p);
        ht_mem_free(y.p);
    }
    remove_dir(dir);
    ht_gguf_deinit(&g);
    ht_mem_free(whole.p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(splits),        cmocka_unit_test(splits_keep_alignment),
        cmocka_unit_test(all_or_nothing), cmocka_unit_test(refuses),   cmocka_unit_test(out_of_memory),
        cmocka_unit_test(late_values), cmocka_unit_test(killed),
        cmocka_unit_test(golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
