#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/limits.h"
#include "io/container.h"
#include "io/gguf.h"
#include "io_build.h"

#define HEAD(n_tensors, n_kv) "t:GGUF w4:3 w8:" #n_tensors " w8:" #n_kv " "
#define ARCH "s:general.architecture w4:8 s:llama "
/* name, ne[0], type number, offset */
#define VEC(name, ne0, type, offset) "s:" name " w4:1 w8:" #ne0 " w4:" #type " w8:" #offset " "
#define MAT(name, ne0, ne1, type, offset) "s:" name " w4:2 w8:" #ne0 " w8:" #ne1 " w4:" #type " w8:" #offset " "

/* Every kind of value, three tensors; its length is a multiple of 32 without padding at the end. */
#define VALID                                                                                                  \
    HEAD(3, 16) ARCH "s:a.u8 w4:0 w1:200 s:a.i8 w4:1 w1:-5 s:a.u16 w4:2 w2:60000 s:a.i16 w4:3 w2:-30000 "        \
    "s:a.u32 w4:4 w4:4000000000 s:a.i32 w4:5 w4:-7 s:a.f32 w4:6 f4:0.5 s:a.bool w4:7 w1:1 s:a.str w4:8 s:h\xc3\xa9 " \
    "s:a.strs w4:9 w4:8 w8:3 s:one w8:0 s:three s:a.ints w4:9 w4:5 w8:2 w4:-1 w4:7 s:a.empty w4:9 w4:4 w8:0 "   \
    "s:a.u64 w4:10 w8:0xfedcba9876543210 s:a.i64 w4:11 w8:-9000000000 s:a.f64 w4:12 f8:2.25 "                  \
    VEC("norm", 3, 0, 0) MAT("w", 64, 2, 8, 32) "s:scalar w4:0 w4:0 w8:192 "                                   \
    "p:32 f4:1 f4:2 f4:3 p:32 r:136:7 p:32 f4:4 z:28"

static void values(void **state) {
    (void)state;
    struct bytes b = build(VALID);
    struct ht_gguf g;
    ht_err err = {0};
    ASSERT_OK(ht_gguf_parse(b.p, b.n, "valid", &g, &err), &err);
    assert_int_equal(g.version, 3);
    assert_int_equal(g.alignment, 32);
    assert_int_equal(g.meta.n, 16);
    uint64_t u = 0;
    bool found = false, yes = false;
    double f = 0;
    const char *s = NULL;
    static const struct {
        const char *key;
        uint64_t v;
    } ints[] = {{"a.u8", 200}, {"a.u16", 60000}, {"a.u32", 4000000000u}, {"a.u64", 0xfedcba9876543210u}};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        ASSERT_OK(ht_meta_get_u64(&g.meta, ints[i].key, UINT64_MAX, &u, &found, &err), &err);
        assert_true(found && u == ints[i].v);
    }
    assert_int_equal(ht_meta_find(&g.meta, "a.i8")->v.i, -5);
    assert_int_equal(ht_meta_find(&g.meta, "a.i16")->v.i, -30000);
    assert_int_equal(ht_meta_find(&g.meta, "a.i32")->v.i, -7);
    assert_true(ht_meta_find(&g.meta, "a.i64")->v.i == -9000000000);
    ASSERT_OK(ht_meta_get_f64(&g.meta, "a.f32", &f, NULL, &err), &err);
    assert_true(f == 0.5);
    ASSERT_OK(ht_meta_get_f64(&g.meta, "a.f64", &f, NULL, &err), &err);
    assert_true(f == 2.25);
    ASSERT_OK(ht_meta_get_bool(&g.meta, "a.bool", &yes, NULL, &err), &err);
    assert_true(yes);
    ASSERT_OK(ht_meta_get_str(&g.meta, "a.str", &s, NULL, &err), &err);
    assert_string_equal(s, "h\xc3\xa9");
    const struct ht_meta_kv *strs = ht_meta_find(&g.meta, "a.strs"), *nums = ht_meta_find(&g.meta, "a.ints");
    assert_int_equal(strs->n, 3);
    assert_string_equal(ht_meta_elem_str(strs, 0).s, "one");
    assert_int_equal(ht_meta_elem_str(strs, 1).len, 0);
    assert_string_equal(ht_meta_elem_str(strs, 2).s, "three");
    assert_string_equal(ht_meta_elem_str(strs, 3).s, "");
    assert_int_equal(ht_meta_elem_i64(nums, 0), -1);
    assert_true(ht_meta_elem_f64(nums, 1) == 7.0);
    assert_int_equal(ht_meta_find(&g.meta, "a.empty")->n, 0);

    assert_int_equal(g.n_tensors, 3);
    assert_string_equal(g.tensors[0].name, "norm");
    assert_string_equal(g.tensors[1].format->name, "q8_0");
    assert_int_equal(g.tensors[1].bytes, 2 * 2 * 34);
    assert_int_equal(g.tensors[1].ne[1], 2);
    assert_int_equal(g.tensors[2].n_dims, 0);
    assert_int_equal(ht_tensor_elems(&g.tensors[2]), 1);
    float x[3], four;
    memcpy(x, g.tensors[0].data, sizeof x);
    memcpy(&four, g.tensors[2].data, sizeof four);
    assert_true(x[0] == 1 && x[1] == 2 && x[2] == 3 && four == 4);
    assert_int_equal(((const unsigned char *)g.tensors[1].data)[135], 7);
    assert_int_equal(g.trailing_bytes, 0);
    assert_int_equal(g.missing_pad_bytes, 0);
    ht_gguf_deinit(&g);
    free(b.p);
}

/* Accepted though unusual. */
static const struct {
    const char *name, *script;
    uint64_t trailing, missing;
    size_t n_tensors;
} accepted[] = {
    {"version 2", "t:GGUF w4:2 w8:0 w8:1 " ARCH, 0, 0, 0},
    {"nothing at all", HEAD(0, 0), 0, 0, 0},
    {"no tensors, padded", HEAD(0, 0) "p:32", 0, 0, 0},
    {"no tensors, garbage", HEAD(0, 1) ARCH "p:32 z:5", 5, 0, 0},
    {"last padding is missing", HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 f4:1", 0, 28, 1},
    {"last padding is cut", HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 f4:1 z:8", 0, 20, 1},
    {"garbage behind", HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 f4:1 p:32 t:garbage", 7, 0, 1},
    {"alignment 8", HEAD(2, 1) "s:general.alignment w4:4 w4:8 " VEC("x", 1, 0, 0) VEC("y", 1, 0, 8) "p:8 f4:1 z:4 f4:2 z:4", 0,
     0, 2},
    {"alignment 65536", HEAD(1, 1) "s:general.alignment w4:4 w4:65536 " VEC("x", 1, 0, 0) "p:65536 f4:1", 0, 65532, 1},
    {"name of 63 bytes", HEAD(1, 0) "w8:63 r:63:120 w4:1 w8:1 w4:0 w8:0 p:32 f4:1 p:32", 0, 0, 1},
    {"four dimensions", HEAD(1, 0) "s:x w4:4 w8:2 w8:1 w8:2 w8:1 w4:0 w8:0 p:32 z:32", 0, 0, 1},
    {"string values are any bytes", HEAD(0, 1) "s:k w4:8 w8:3 x:ff0080", 0, 0, 0},
    {"bf16", HEAD(1, 0) VEC("x", 4, 30, 0) "p:32 z:32", 0, 0, 1},
};

static void accepts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        struct bytes b = build(accepted[i].script);
        struct ht_gguf g;
        ht_err err = {0};
        if (ht_gguf_parse(b.p, b.n, "file", &g, &err) != HT_OK) {
            fail_msg("%s: %s", accepted[i].name, err.msg);
        }
        assert_int_equal(g.trailing_bytes, accepted[i].trailing);
        assert_int_equal(g.missing_pad_bytes, accepted[i].missing);
        assert_int_equal(g.n_tensors, accepted[i].n_tensors);
        ht_gguf_deinit(&g);
        free(b.p);
    }
}

#define ANY HT_NO_POS

static const struct {
    const char *name, *script;
    ht_status code;
    const char *part; /* of the message: names the place */
    uint64_t pos;     /* byte, or ANY */
} malformed[] = {
    /* header */
    {"empty", "", HT_FORMAT, "header: the magic needs 4 bytes", 0},
    {"three bytes", "t:GGU", HT_FORMAT, "header: the magic", 0},
    {"wrong magic", "t:GGUX w4:3 w8:0 w8:0", HT_FORMAT, "found 'GGUX'", 0},
    {"unprintable magic", "x:00ff0a1b w4:3 w8:0 w8:0", HT_FORMAT, "found '....'", 0},
    {"old ggml", "t:lmgg w4:1", HT_FORMAT, "an old GGML file", 0},
    {"old ggjt", "t:tjgg w4:3", HT_FORMAT, "an old GGJT file", 0},
    {"zip", "x:504b0304 z:40", HT_FORMAT, "zip archive", 0},
    {"lfs pointer", "t:version_https://git-lfs.github.com/spec/v1", HT_FORMAT, "Git LFS", 0},
    {"version 0", "t:GGUF w4:0 w8:0 w8:0", HT_FORMAT, "version 0", 4},
    {"version 1", "t:GGUF w4:1 w4:0 w4:0 z:8", HT_UNSUPPORTED, "version 1 is obsolete", 4},
    {"version 4", "t:GGUF w4:4 w8:0 w8:0", HT_UNSUPPORTED, "version 4 is newer", 4},
    {"version of another century", "t:GGUF w4:0x7fffffff w8:0 w8:0", HT_UNSUPPORTED, "newer", 4},
    {"big-endian", "t:GGUF x:00000003 x:0000000000000000 x:0000000000000000", HT_UNSUPPORTED, "big-endian", 4},
    {"big-endian version 2", "t:GGUF x:00000002 x:0000000000000000 x:0000000000000000", HT_UNSUPPORTED, "big-endian", 4},
    {"more tensors than bytes", HEAD(1, 0), HT_FORMAT, "1 tensors cannot fit", 8},
    {"2^63 tensors", HEAD(0x8000000000000000, 0) "z:64", HT_FORMAT, "tensors cannot fit", 8},
    {"2^64-1 tensors", HEAD(-1, 0) "z:64", HT_FORMAT, "tensors cannot fit", 8},
    {"more pairs than bytes", HEAD(0, 5) "z:32", HT_FORMAT, "5 metadata pairs cannot fit", 16},
    {"2^62 pairs", HEAD(0, 0x4000000000000000) "z:64", HT_FORMAT, "metadata pairs cannot fit", 16},
    {"too many pairs", HEAD(0, 65537) "z:1000000", HT_LIMIT, "65537 metadata pairs, the limit is 65536", 16},
    /* keys */
    {"key longer than the file", HEAD(0, 1) "w8:1000 t:k z:20", HT_FORMAT, "key 0: the key needs 1000 bytes", 32},
    {"key length 2^64-1", HEAD(0, 1) "w8:-1 t:k z:20", HT_FORMAT, "key 0: the key needs", 32},
    {"key length 2^63", HEAD(0, 1) "w8:0x8000000000000000 t:k z:20", HT_FORMAT, "key 0: the key needs", 32},
    {"key of 65536 bytes", HEAD(0, 1) "w8:65536 r:65536:97 w4:4 w4:1", HT_LIMIT, "key 0: the key has 65536 bytes", 24},
    {"empty key", HEAD(0, 1) "w8:0 w4:4 w4:1 z:8", HT_FORMAT, "key 0: the key is empty", 24},
    {"NUL in a key", HEAD(0, 1) "w8:3 x:610062 w4:4 w4:1", HT_FORMAT, "control character", 24},
    {"escape in a key", HEAD(0, 1) "w8:3 x:611b62 w4:4 w4:1", HT_FORMAT, "control character", 24},
    {"C1 control in a key", HEAD(0, 1) "w8:3 x:61c29b w4:4 w4:1", HT_FORMAT, "control character", 24},
    {"key is not UTF-8", HEAD(0, 1) "w8:3 x:61ff62 w4:4 w4:1", HT_FORMAT, "not valid UTF-8", 24},
    {"overlong UTF-8", HEAD(0, 1) "w8:3 x:61c0af w4:4 w4:1", HT_FORMAT, "not valid UTF-8", 24},
    {"surrogate", HEAD(0, 1) "w8:3 x:eda080 w4:4 w4:1", HT_FORMAT, "not valid UTF-8", 24},
    {"cut UTF-8", HEAD(0, 1) "w8:3 x:6161c3 w4:4 w4:1", HT_FORMAT, "not valid UTF-8", 24},
    {"duplicate key", HEAD(0, 2) "s:k w4:4 w4:1 s:k w4:4 w4:1", HT_FORMAT, "key 1 'k': the key appears twice", 41},
    {"duplicate key of another type", HEAD(0, 2) "s:k w4:4 w4:1 s:k w4:8 s:x", HT_FORMAT, "key 1 'k': the key appears", 41},
    /* values */
    {"value type 13", HEAD(0, 1) "s:k w4:13 w4:1 z:8", HT_FORMAT, "key 0 'k': the value's type is 13", 33},
    {"value type 2^32-1", HEAD(0, 1) "s:k w4:-1 w4:1 z:8", HT_FORMAT, "the value's type is 4294967295", 33},
    {"u64 is cut", HEAD(0, 1) "s:k w4:10 w4:1", HT_FORMAT, "key 0 'k': the value needs 8 bytes", 37},
    {"bool of 2", HEAD(0, 1) "s:k w4:7 w1:2", HT_FORMAT, "key 0 'k': a bool is 2", 37},
    {"bool of 255", HEAD(0, 1) "s:k w4:7 w1:255", HT_FORMAT, "a bool is 255", 37},
    {"string longer than the file", HEAD(0, 1) "s:k w4:8 w8:100 t:abc", HT_FORMAT, "key 0 'k': the string needs 100", 45},
    {"string of 2^64-8", HEAD(0, 1) "s:k w4:8 w8:-8 t:abc", HT_FORMAT, "the string needs", 45},
    {"array of arrays", HEAD(0, 1) "s:k w4:9 w4:9 w8:1 w4:4 w8:1 w4:0", HT_UNSUPPORTED, "key 0 'k': an array of arrays", 37},
    {"array of type 99", HEAD(0, 1) "s:k w4:9 w4:99 w8:1 w4:4", HT_FORMAT, "element type is 99", 37},
    {"array longer than the file", HEAD(0, 1) "s:k w4:9 w4:4 w8:3 w4:1 w4:2", HT_FORMAT, "an array of 3 elements", 41},
    {"array of 2^62", HEAD(0, 1) "s:k w4:9 w4:4 w8:0x4000000000000000 w4:1", HT_FORMAT, "cannot fit", 41},
    {"array of 2^64-1", HEAD(0, 1) "s:k w4:9 w4:0 w8:-1 w4:1", HT_FORMAT, "cannot fit", 41},
    {"array of 2^61 f64", HEAD(0, 1) "s:k w4:9 w4:12 w8:0x2000000000000000 w8:1", HT_FORMAT, "cannot fit", 41},
    {"array without length", HEAD(0, 1) "s:k w4:9 w4:4 w4:1", HT_FORMAT, "the array's length needs 8 bytes", 41},
    {"string array longer than the file", HEAD(0, 1) "s:k w4:9 w4:8 w8:3 s:a s:b", HT_FORMAT, "an array of 3", 41},
    {"string array cut inside", HEAD(0, 1) "s:k w4:9 w4:8 w8:2 s:a w8:9 t:b", HT_FORMAT, "a string of the array needs 9", 66},
    {"bool array with a 3", HEAD(0, 1) "s:k w4:9 w4:7 w8:3 x:000103", HT_FORMAT, "a bool is 3", 51},
    {"too long an array", HEAD(0, 1) "s:k w4:9 w4:0 w8:16777217 z:16777217", HT_LIMIT, "16777217 elements, the limit", 41},
    /* alignment */
    {"alignment is u64", HEAD(0, 1) "s:general.alignment w4:10 w8:32", HT_FORMAT, "'general.alignment': expected u32, found u64", ANY},
    {"alignment is a string", HEAD(0, 1) "s:general.alignment w4:8 s:32", HT_FORMAT, "found string", ANY},
    {"alignment 0", HEAD(0, 1) "s:general.alignment w4:4 w4:0", HT_FORMAT, "expected a power of two", ANY},
    {"alignment 4", HEAD(0, 1) "s:general.alignment w4:4 w4:4", HT_FORMAT, "from 8 to 65536, found 4", ANY},
    {"alignment 33", HEAD(0, 1) "s:general.alignment w4:4 w4:33", HT_FORMAT, "found 33", ANY},
    {"alignment 131072", HEAD(0, 1) "s:general.alignment w4:4 w4:131072", HT_FORMAT, "found 131072", ANY},
    {"alignment 2^31", HEAD(0, 1) "s:general.alignment w4:4 w4:0x80000000", HT_FORMAT, "found 2147483648", ANY},
    /* tensors */
    {"name longer than the file", HEAD(1, 0) "w8:500 t:x z:40", HT_FORMAT, "tensor 0: the name needs 500", 32},
    {"name of 64 bytes", HEAD(1, 0) "w8:64 r:64:120 w4:1 w8:1 w4:0 w8:0 p:32 f4:1 p:32", HT_FORMAT,
     "tensor 0: the name of 64 bytes is too long; expected 1 to 63", 24},
    {"name is empty", HEAD(1, 0) "w8:0 w4:1 w8:1 w4:0 w8:0 p:32 f4:1 p:32", HT_FORMAT, "tensor 0: the name of 0 bytes is empty", 24},
    {"NUL in a name", HEAD(1, 0) "w8:3 x:780079 w4:1 w8:1 w4:0 w8:0 p:32 f4:1 p:32", HT_FORMAT, "control character", 24},
    {"name is not UTF-8", HEAD(1, 0) "w8:2 x:fe80 w4:1 w8:1 w4:0 w8:0 p:32 f4:1 p:32", HT_FORMAT, "not valid UTF-8", 24},
    {"two tensors of a name", HEAD(2, 0) VEC("x", 1, 0, 0) VEC("x", 1, 0, 32) "p:32 z:64", HT_FORMAT,
     "tensor 1 'x': the name appears twice", 57},
    {"five dimensions", HEAD(1, 0) "s:x w4:5 w8:1 w8:1 w8:1 w8:1 w8:1 w4:0 w8:0 p:32 z:32", HT_FORMAT, "tensor 0 'x': 5 dimensions", 33},
    {"2^32-1 dimensions", HEAD(1, 0) "s:x w4:-1 w8:1 w4:0 w8:0 p:32 z:32", HT_FORMAT, "4294967295 dimensions", 33},
    {"dimension 0", HEAD(1, 0) MAT("x", 4, 0, 0, 0) "p:32 z:32", HT_FORMAT, "'x': dimension 1 is 0", 37},
    {"negative dimension", HEAD(1, 0) MAT("x", 4, -1, 0, 0) "p:32 z:32", HT_FORMAT, "'x': dimension 1", 37},
    {"elements overflow", HEAD(1, 0) MAT("x", 0x100000000, 0x100000000, 0, 0) "p:32 z:32", HT_FORMAT, "overflows 64 bits", 37},
    {"rows overflow", HEAD(1, 0) "s:x w4:4 w8:1 w8:0x7fffffff w8:0x7fffffff w8:0x7fffffff w4:0 w8:0 p:32 z:32", HT_FORMAT,
     "overflows 64 bits", 37},
    {"bytes overflow", HEAD(1, 0) VEC("x", 0x4000000000000000, 0, 0) "p:32 z:32", HT_FORMAT, "overflows 64 bits", 37},
    {"bytes overflow to small", HEAD(1, 0) VEC("x", 0x4000000000000001, 0, 0) "p:32 z:32", HT_FORMAT, "overflows 64 bits", 37},
    {"row is no whole block", HEAD(1, 0) VEC("x", 33, 8, 0) "p:32 z:64", HT_FORMAT, "a row of 33 elements", 37},
    {"row is no whole superblock", HEAD(1, 0) VEC("x", 128, 12, 0) "p:32 z:96", HT_FORMAT, "multiple of q4_k's block of 256", 37},
    {"scalar of a block type", HEAD(1, 0) "s:x w4:0 w4:8 w8:0 p:32 z:64", HT_FORMAT, "a row of 1 elements", 37},
    {"removed type Q4_2", HEAD(1, 0) VEC("x", 32, 4, 0) "p:32 z:32", HT_UNSUPPORTED, "'x': type 4 (Q4_2) was removed", 45},
    {"removed type Q4_0_8_8", HEAD(1, 0) VEC("x", 32, 33, 0) "p:32 z:32", HT_UNSUPPORTED, "(Q4_0_8_8) was removed", 45},
    {"removed type IQ4_NL_4_4", HEAD(1, 0) VEC("x", 32, 36, 0) "p:32 z:32", HT_UNSUPPORTED, "(IQ4_NL_4_4) was removed", 45},
    {"type of activations", HEAD(1, 0) VEC("x", 32, 9, 0) "p:32 z:64", HT_UNSUPPORTED, "type 9 (Q8_1) is for activations", 45},
    {"unknown type 43", HEAD(1, 0) VEC("x", 32, 43, 0) "p:32 z:32", HT_FORMAT, "unknown tensor type 43", 45},
    {"unknown type of a fork", HEAD(1, 0) VEC("x", 32, 137, 0) "p:32 z:32", HT_FORMAT, "unknown tensor type 137", 45},
    {"unknown type 2^32-1", HEAD(1, 0) VEC("x", 32, -1, 0) "p:32 z:32", HT_FORMAT, "unknown tensor type 4294967295", 45},
    {"offset is missing", HEAD(1, 0) "s:x w4:1 w8:1 w4:0 w4:0", HT_FORMAT, "tensor 0 'x': the offset needs 8 bytes", 49},
    /* data */
    {"offset is not aligned", HEAD(1, 0) VEC("x", 1, 0, 4) "p:32 z:32", HT_FORMAT, "tensor 0 'x': offset 4 is not a multiple", ANY},
    {"gap in front of the first", HEAD(1, 0) VEC("x", 1, 0, 32) "p:32 z:64", HT_FORMAT, "offset 32, expected 0", ANY},
    {"gap between", HEAD(2, 0) VEC("x", 1, 0, 0) VEC("y", 1, 0, 64) "p:32 z:96", HT_FORMAT, "tensor 1 'y': offset 64, expected 32", ANY},
    {"overlap", HEAD(2, 0) VEC("x", 16, 0, 0) VEC("y", 1, 0, 32) "p:32 z:128", HT_FORMAT, "'y': offset 32, expected 64", ANY},
    {"swapped offsets", HEAD(2, 0) VEC("x", 1, 0, 32) VEC("y", 1, 0, 0) "p:32 z:64", HT_FORMAT, "'x': offset 32, expected 0", ANY},
    {"offset beyond the file", HEAD(1, 0) VEC("x", 1, 0, 0x7fffffffffffffe0) "p:32 z:32", HT_FORMAT, "expected 0", ANY},
    {"offset 2^64-32", HEAD(1, 0) VEC("x", 1, 0, 0xffffffffffffffe0) "p:32 z:32", HT_FORMAT, "expected 0", ANY},
    {"no data section", HEAD(1, 0) VEC("x", 1, 0, 0), HT_FORMAT, "tensor 0 'x': 4 bytes of data from byte 64 on", ANY},
    {"data are cut", HEAD(1, 0) VEC("x", 16, 0, 0) "p:32 z:63", HT_FORMAT, "64 bytes of data from byte 64 on", ANY},
    {"tensor larger than the file", HEAD(1, 0) MAT("x", 65536, 65536, 0, 0) "p:32 z:64", HT_FORMAT, "17179869184 bytes of data", ANY},
    {"exabytes", HEAD(1, 0) MAT("x", 1073741824, 1073741824, 0, 0) "p:32 z:64", HT_FORMAT, "4611686018427387904 bytes of data", ANY},
    {"sum of sizes overflows", HEAD(2, 0) VEC("x", 0x1ffffffffffffff0, 0, 0) VEC("y", 0x1ffffffffffffff0, 0, 0) "p:32 z:64", HT_FORMAT,
     "bytes of data", ANY},
    {"second tensor is cut", HEAD(2, 0) VEC("x", 1, 0, 0) VEC("y", 16, 0, 32) "p:32 z:64", HT_FORMAT, "tensor 1 'y': 64 bytes of data", ANY},
};

static void refuses(void **state) {
    (void)state;
    size_t n = sizeof malformed / sizeof malformed[0];
    assert_true(n >= 60);
    for (size_t i = 0; i < n; i++) {
        struct bytes b = build(malformed[i].script);
        struct ht_gguf g;
        ht_err err = {0};
        ht_status got = ht_gguf_parse(b.p, b.n, "a.gguf", &g, &err);
        check_refused(malformed[i].name, got, malformed[i].code, &err, malformed[i].part, "a.gguf");
        if (malformed[i].pos != ANY && err.pos != malformed[i].pos) {
            fail_msg("%s: at byte %llu, expected %llu", malformed[i].name, (unsigned long long)err.pos,
                     (unsigned long long)malformed[i].pos);
        }
        free(b.p);
    }
}

/* Every tensor type number up to 1,000: accepted exactly when a format has it, else refused in words. */
static void every_type_number(void **state) {
    (void)state;
    size_t accepted_types = 0;
    for (uint32_t type = 0; type < 1000; type++) {
        const struct ht_format *f = ht_format_by_gguf(type);
        uint32_t ne = f != NULL ? f->block_elems : 256, bytes = f != NULL ? f->block_bytes : 1024;
        char script[256];
        snprintf(script, sizeof script, HEAD(1, 0) "s:x w4:1 w8:%u w4:%u w8:0 p:32 r:%u:1 p:32", ne, type, bytes);
        struct bytes b = build(script);
        struct ht_gguf g;
        ht_err err = {0};
        ht_status got = ht_gguf_parse(b.p, b.n, "a.gguf", &g, &err);
        if (f != NULL) {
            ASSERT_OK(got, &err);
            assert_ptr_equal(g.tensors[0].format, f);
            assert_int_equal(g.tensors[0].bytes, f->block_bytes);
            ht_gguf_deinit(&g);
            accepted_types++;
        } else {
            char part[32];
            snprintf(part, sizeof part, "type %u", type);
            check_refused("type", got, type > 42 ? HT_FORMAT : HT_UNSUPPORTED, &err, part, "a.gguf");
            assert_int_equal(err.pos, 45);
        }
        free(b.p);
    }
    assert_true(accepted_types >= 19); /* 8 plain ones and the formats for weights */
}

/* Every value type, alone and in an array, cut at every byte of its value. */
static void every_value_type_cut(void **state) {
    (void)state;
    static const char *const values[HT_META_TYPES] = {"w1:1", "w1:1", "w2:1", "w2:1", "w4:1", "w4:1", "f4:1",
                                                      "w1:1", "s:abc", NULL,  "w8:1", "w8:1", "f8:1"};
    for (int type = 0; type < HT_META_TYPES; type++) {
        for (int array = 0; array < 2 && values[type] != NULL; array++) {
            char script[256];
            snprintf(script, sizeof script, array ? HEAD(0, 1) "s:key w4:9 w4:%d w8:2 %s %s" : HEAD(0, 1) "s:key w4:%d %s", type,
                     values[type], values[type]);
            struct bytes b = build(script);
            for (size_t n = 24; n <= b.n; n++) {
                unsigned char *p = prefix(&b, n);
                struct ht_gguf g;
                ht_err err = {0};
                ht_status got = ht_gguf_parse(p, n, "cut", &g, &err);
                if (n < b.n) {
                    assert_int_equal(got, HT_FORMAT);
                    assert_non_null(strstr(err.msg, n < 38 ? "1 metadata pairs cannot fit" : "key 0"));
                } else {
                    ASSERT_OK(got, &err);
                    ht_gguf_deinit(&g);
                }
                free(p);
            }
            free(b.p);
        }
    }
}

/* Offsets beyond 4 GiB: a sparse file of 6 GiB whose last tensor lies behind the first two. */
static void beyond_four_gib(void **state) {
    (void)state;
    char dir[64];
    temp_dir(dir);
    const char *path = in(dir, "large.gguf");
    struct ht_source *s;
    ht_err err = {0};
    put_script(path, HEAD(3, 0) MAT("a", 65536, 16384, 0, 0) MAT("b", 65536, 8192, 0, 4294967296) VEC("c", 8, 0, 6442450944) "p:32");
    struct bytes head = get_file(path);
    uint64_t total = head.n + 6442450944 + 32;
    ht_mem_free(head.p);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    const float mark[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    bool room = fseeko(f, (off_t)(total - 32), SEEK_SET) == 0 && fwrite(mark, 1, 32, f) == 32;
    room = fclose(f) == 0 && room;
    if (!room) {
        remove_dir(dir);
        skip(); /* a file system without sparse files */
    }
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    assert_int_equal(s->file_bytes, total);
    assert_int_equal(s->trailing_bytes, 0);
    assert_memory_equal(ht_source_find(s, "c")->data, mark, sizeof mark);
    assert_int_equal((const unsigned char *)ht_source_find(s, "c")->data - (const unsigned char *)ht_source_find(s, "a")->data,
                     6442450944);
    ht_source_close(s);
    assert_int_equal(truncate(path, (off_t)total - 1), 0);
    check_refused("one byte less", ht_source_open(path, &s, &err), HT_FORMAT, &err, "tensor 2 'c': 32 bytes of data", "large.gguf");
    remove_dir(dir);
}

static void truncated_at_every_byte(void **state) {
    (void)state;
    struct bytes b = build(VALID);
    /* The last tensor is 4 bytes and 28 of padding: without them no data is lost, so the file is taken. */
    for (size_t n = 0; n < b.n; n++) {
        unsigned char *p = prefix(&b, n);
        struct ht_gguf g;
        ht_err err = {0};
        ht_status got = ht_gguf_parse(p, n, "cut.gguf", &g, &err);
        if (n < b.n - 28) {
            if (got != HT_FORMAT || err.msg[0] == '\0') {
                fail_msg("cut to %zu bytes: %s: %s", n, ht_status_text(got), err.msg);
            }
        } else {
            ASSERT_OK(got, &err);
            assert_int_equal(g.missing_pad_bytes, b.n - n);
            ht_gguf_deinit(&g);
        }
        free(p);
    }
    free(b.p);
}

/* Any single bit may flip: the parser answers in words or gives tensors that lie inside the file. */
static void flipped_bits(void **state) {
    (void)state;
    struct bytes b = build(VALID);
    for (size_t bit = 0; bit < 8 * b.n; bit++) {
        b.p[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        struct ht_gguf g;
        ht_err err = {0};
        if (ht_gguf_parse(b.p, b.n, "flip", &g, &err) == HT_OK) {
            for (size_t i = 0; i < g.n_tensors; i++) {
                const unsigned char *d = g.tensors[i].data;
                assert_true(d >= b.p && g.tensors[i].bytes <= (uint64_t)(b.p + b.n - d));
            }
            ht_gguf_deinit(&g);
        } else {
            assert_true(err.msg[0] != '\0');
        }
        b.p[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    free(b.p);
}

static void out_of_memory(void **state) {
    (void)state;
    struct bytes b = build(VALID);
    for (uint64_t n = 1;; n++) {
        struct ht_gguf g;
        ht_err err = {0};
        ht_mem_fail_at(n, 0);
        ht_status got = ht_gguf_parse(b.p, b.n, "file", &g, &err);
        uint64_t made = ht_mem_alloc_count();
        ht_mem_fail_at(0, 0);
        if (got == HT_OK) {
            assert_true(made < n);
            ht_gguf_deinit(&g);
            break;
        }
        assert_int_equal(got, HT_NOMEM);
    }
    free(b.p);
}

/* ---- splits ------------------------------------------------------------------------------------------ */

#define SPLIT(no, count, tensors) \
    "s:split.no w4:2 w2:" #no " s:split.count w4:2 w2:" #count " s:split.tensors.count w4:5 w4:" #tensors " "

static void put_splits(const char *dir) {
    put_script(in(dir, "m-00001-of-00002.gguf"), HEAD(1, 4) ARCH SPLIT(0, 2, 3) VEC("x", 1, 0, 0) "p:32 f4:1 p:32");
    put_script(in(dir, "m-00002-of-00002.gguf"),
               HEAD(2, 3) SPLIT(1, 2, 3) VEC("y", 1, 0, 0) VEC("z", 1, 0, 32) "p:32 f4:2 p:32 f4:3 p:32");
}

static void splits(void **state) {
    (void)state;
    char dir[64];
    temp_dir(dir);
    put_splits(dir);
    static const char *const names[] = {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"};
    for (int i = 0; i < 2; i++) { /* any of them opens all */
        struct ht_source *s;
        ht_err err = {0};
        ASSERT_OK(ht_source_open(in(dir, names[i]), &s, &err), &err);
        assert_string_equal(s->container->name, "gguf");
        assert_int_equal(s->n_maps, 2);
        assert_int_equal(s->n_tensors, 3);
        assert_int_equal(s->data_bytes, 12);
        float z;
        memcpy(&z, ht_source_find(s, "z")->data, sizeof z);
        assert_true(z == 3);
        assert_null(ht_source_find(s, "none"));
        const char *arch = "";
        ASSERT_OK(ht_meta_get_str(&s->meta, "general.architecture", &arch, NULL, &err), &err);
        assert_string_equal(arch, "llama");
        assert_null(ht_meta_find(&s->meta, "split.no"));
        assert_null(ht_meta_find(&s->meta, "split.count"));
        assert_true(ht_source_is(s, in(dir, names[1 - i])));
        assert_false(ht_source_is(s, in(dir, "other.gguf")));
        symlink(in(dir, names[0]), in(dir, "link.gguf"));
        assert_true(ht_source_is(s, in(dir, "link.gguf")));
        ht_source_drop(s, ht_source_find(s, "z"));
        ht_source_close(s);
    }
    remove_dir(dir);
}

static void bad_splits(void **state) {
    (void)state;
    static const struct {
        const char *name, *file, *script; /* file of put_splits that is replaced; NULL script: removed */
        ht_status code;
        const char *part, *what;
    } cases[] = {
        {"missing", "m-00002-of-00002.gguf", NULL, HT_NOTFOUND, "file 2 of 2 of a split model is missing", "m-00002-of-00002.gguf"},
        {"number", "m-00002-of-00002.gguf", HEAD(1, 3) SPLIT(0, 2, 3) VEC("y", 1, 0, 0) "p:32 z:32", HT_FORMAT,
         "file 2 of 2, its metadata split.no = 0", "m-00002"},
        {"count", "m-00002-of-00002.gguf", HEAD(1, 3) SPLIT(1, 3, 3) VEC("y", 1, 0, 0) "p:32 z:32", HT_FORMAT,
         "split.count = 3", "m-00002"},
        {"tensors", "m-00002-of-00002.gguf", HEAD(1, 3) SPLIT(1, 2, 3) VEC("y", 1, 0, 0) "p:32 z:32", HT_FORMAT,
         "split.tensors.count is 3, but the 2 files hold 2 tensors", "m-00001"},
        {"disagreement", "m-00002-of-00002.gguf", HEAD(2, 3) SPLIT(1, 2, 4) VEC("y", 1, 0, 0) VEC("z", 1, 0, 32) "p:32 z:64", HT_FORMAT,
         "split.tensors.count is 4 here and 3", "m-00002"},
        {"twice", "m-00002-of-00002.gguf", HEAD(2, 3) SPLIT(1, 2, 3) VEC("y", 1, 0, 0) VEC("x", 1, 0, 32) "p:32 z:64", HT_FORMAT,
         "tensor 'x' is in this file and also in m-00001-of-00002.gguf", "m-00002"},
        {"wrong type", "m-00002-of-00002.gguf", HEAD(0, 1) "s:split.no w4:8 s:one", HT_FORMAT, "key 'split.no': expected an integer",
         "m-00002"},
        {"negative", "m-00002-of-00002.gguf", HEAD(0, 1) "s:split.no w4:5 w4:-1", HT_FORMAT, "key 'split.no'", "m-00002"},
        {"broken", "m-00002-of-00002.gguf", "t:GGUF w4:3", HT_FORMAT, "the number of tensors", "m-00002"},
        {"no keys", "m-00001-of-00002.gguf", HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 z:32", HT_FORMAT, "split.count = 0", "m-00001"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[64];
        struct ht_source *s;
        ht_err err = {0};
        temp_dir(dir);
        put_splits(dir);
        if (cases[i].script != NULL) {
            put_script(in(dir, cases[i].file), cases[i].script);
        } else {
            unlink(in(dir, cases[i].file));
        }
        ht_status got = ht_source_open(in(dir, "m-00001-of-00002.gguf"), &s, &err);
        check_refused(cases[i].name, got, cases[i].code, &err, cases[i].part, cases[i].what);
        assert_null(s);
        remove_dir(dir);
    }
    char dir[64];
    struct ht_source *s;
    ht_err err = {0};
    temp_dir(dir);
    put_script(in(dir, "renamed.gguf"), HEAD(1, 4) ARCH SPLIT(0, 2, 3) VEC("x", 1, 0, 0) "p:32 f4:1 p:32");
    check_refused("renamed", ht_source_open(in(dir, "renamed.gguf"), &s, &err), HT_FORMAT, &err, "one of 2 files of a split model",
                  "renamed.gguf");
    remove_dir(dir);
}

/* A file of gguf-py, and what gguf-py itself reads from it (tests/oracle/io_golden.py). */
static void golden(void **state) {
    (void)state;
    struct ht_source *s;
    json_t *want;
    ht_err err = {0};
    ASSERT_OK(ht_source_open(HT_TEST_DIR "/golden/io/gguf-py.gguf", &s, &err), &err);
    ASSERT_OK(ht_json_load_file(HT_TEST_DIR "/golden/io/values.json", 1 << 20, &want, &err), &err);
    const json_t *tensors = json_object_get(want, "tensors");
    assert_int_equal(s->n_tensors, json_array_size(tensors));
    for (size_t i = 0; i < s->n_tensors; i++) {
        const json_t *w = json_array_get(tensors, i), *ne = json_object_get(w, "ne");
        const struct ht_tensor *t = &s->tensors[i];
        char head[17] = "";
        assert_string_equal(t->name, json_string_value(json_object_get(w, "name")));
        assert_string_equal(t->format->name, json_string_value(json_object_get(w, "type")));
        assert_int_equal(t->bytes, json_integer_value(json_object_get(w, "bytes")));
        assert_int_equal(t->n_dims, json_array_size(ne));
        for (size_t k = 0; k < json_array_size(ne); k++) {
            assert_int_equal(t->ne[k], json_integer_value(json_array_get(ne, k)));
        }
        for (int k = 0; k < 8; k++) {
            snprintf(head + 2 * k, 3, "%02x", ((const unsigned char *)t->data)[k]);
        }
        assert_string_equal(head, json_string_value(json_object_get(w, "head")));
    }
    json_decref(want);
    uint64_t u = 0;
    double f = 0;
    const char *text = "";
    ASSERT_OK(ht_meta_get_u64(&s->meta, "t.u64", UINT64_MAX, &u, NULL, &err), &err);
    assert_true(u == (1ull << 63) + 5);
    ASSERT_OK(ht_meta_get_f64(&s->meta, "t.f64", &f, NULL, &err), &err);
    assert_true(f == 1e-300);
    assert_true(ht_meta_find(&s->meta, "t.i64")->v.i == -(1ll << 62));
    ASSERT_OK(ht_meta_get_str(&s->meta, "t.text", &text, NULL, &err), &err);
    assert_string_equal(text, "gr\xc3\xbc\xc3\x9f" "e \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x98\x80");
    assert_string_equal(ht_meta_elem_str(ht_meta_find(&s->meta, "t.strings"), 2).s, "\xc3\xa9\n");
    assert_int_equal(ht_meta_elem_i64(ht_meta_find(&s->meta, "t.bools"), 1), 0);
    assert_true(ht_meta_elem_f64(ht_meta_find(&s->meta, "t.floats"), 1) == -0.25);
    ht_source_close(s);
}

static void changed_in_place(void **state) {
    (void)state;
    char dir[64];
    temp_dir(dir);
    const char *path = in(dir, "m.gguf"), *other = in(dir, "other.gguf");
    struct ht_source *s;
    ht_err err = {0};
    put_script(path, VALID);
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    ASSERT_OK(ht_source_check(s, &err), &err);
    FILE *f = fopen(path, "r+b"); /* one byte more */
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    fputc('x', f);
    fclose(f);
    check_refused("longer", ht_source_check(s, &err), HT_IO, &err, "changed while it was read", "m.gguf");
    ht_source_close(s);

    ht_err_clear(&err);
    put_script(path, VALID);
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    check_refused("written to", ht_source_check(s, &err), HT_IO, &err, "was written to", "m.gguf");
    ht_source_close(s);

    ht_err_clear(&err);
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    put_script(other, VALID);
    assert_int_equal(rename(other, path), 0); /* replaced: the map keeps the old file */
    ASSERT_OK(ht_source_check(s, &err), &err);
    unlink(path);
    ASSERT_OK(ht_source_check(s, &err), &err);
    assert_int_equal(ht_source_find(s, "norm")->bytes, 12);
    ht_source_close(s);
    remove_dir(dir);
}

/* Opening splits and folders with every allocation failing once: always HT_NOMEM, nothing leaks. */
static void open_out_of_memory(void **state) {
    (void)state;
    char dir[64];
    temp_dir(dir);
    put_splits(dir);
    const char *const paths[] = {in(dir, "m-00002-of-00002.gguf"), HT_TEST_DIR "/golden/io/hf-shards", HT_TEST_DIR "/golden/io/hf"};
    for (size_t k = 0; k < 3; k++) {
        for (uint64_t n = 1;; n++) {
            struct ht_source *s;
            ht_err err = {0};
            ht_mem_fail_at(n, 0);
            ht_status got = ht_source_open(paths[k], &s, &err);
            ht_mem_fail_at(0, 0);
            if (got == HT_OK) {
                ht_source_close(s);
                assert_true(n > 10);
                break;
            }
            assert_null(s);
            if (got != HT_NOMEM) {
                fail_msg("%s, allocation %llu: %s", paths[k], (unsigned long long)n, err.msg);
            }
        }
    }
    ht_source_close(NULL);
    remove_dir(dir);
}

static void odd_paths(void **state) {
    (void)state;
    char dir[64];
    temp_dir(dir);
    put_script(in(dir, "m-00000-of-00002.gguf"), HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 z:32"); /* names like a split, but none */
    put_script(in(dir, "m-00003-of-00002.gguf"), HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 z:32");
    put_script(in(dir, "m-0000a-of-00002.gguf"), HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 z:32");
    put_script(in(dir, "no-ending"), HEAD(1, 0) VEC("x", 1, 0, 0) "p:32 z:32");
    put_script(in(dir, "m-00001-of-10001.gguf"), HEAD(0, 0));
    static const char *const fine[] = {"m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-0000a-of-00002.gguf", "no-ending"};
    struct ht_source *s;
    ht_err err = {0};
    for (size_t i = 0; i < 4; i++) {
        ASSERT_OK(ht_source_open(in(dir, fine[i]), &s, &err), &err);
        struct ht_tensor outside = s->tensors[0];
        ht_source_drop(s, &outside); /* not one of the source's: ignored */
        ht_source_close(s);
    }
    check_refused("splits", ht_source_open(in(dir, "m-00001-of-10001.gguf"), &s, &err), HT_LIMIT, &err, "10001 files", "10001");
    assert_null(ht_gguf_shard_path("x.bin", 0, 1));
    assert_false(ht_gguf_probe(in(dir, "absent")));
    remove_dir(dir);
}

static void unknown_content(void **state) {
    (void)state;
    char dir[64];
    temp_dir(dir);
    put_text(in(dir, "empty"), "");
    put_text(in(dir, "zip"), "PK\3\4xxxxxxxxxxxx");
    put_text(in(dir, "json"), "{\"a\": 1}");
    put_text(in(dir, "text"), "hello, this is text");
    put_text(in(dir, "lfs"), "version https://git-lfs.github.com/spec/v1\n");
    static const struct {
        const char *name, *part;
        ht_status code;
    } cases[] = {
        {"empty", "the file is empty", HT_FORMAT},      {"zip", "zip archive", HT_FORMAT},
        {"json", "give the folder", HT_FORMAT},         {"text", "neither a GGUF nor a safetensors", HT_FORMAT},
        {"lfs", "git lfs pull", HT_FORMAT},             {"absent", "no such file", HT_NOTFOUND},
        {".", "expected a Hugging Face folder", HT_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_source *s;
        ht_err err = {0};
        ht_status got = ht_source_open(in(dir, cases[i].name), &s, &err);
        check_refused(cases[i].name, got, cases[i].code, &err, cases[i].part, cases[i].name);
    }
    remove_dir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),       cmocka_unit_test(accepts),    cmocka_unit_test(refuses),
        cmocka_unit_test(truncated_at_every_byte),                    cmocka_unit_test(flipped_bits),
        cmocka_unit_test(out_of_memory), cmocka_unit_test(splits),    cmocka_unit_test(bad_splits),
        cmocka_unit_test(golden),        cmocka_unit_test(changed_in_place),
        cmocka_unit_test(every_type_number), cmocka_unit_test(every_value_type_cut), cmocka_unit_test(beyond_four_gib),
        cmocka_unit_test(open_out_of_memory), cmocka_unit_test(odd_paths), cmocka_unit_test(unknown_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
