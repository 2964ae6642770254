#!/usr/bin/env python3
"""Makes the seeds of the file parsers' fuzz targets: small valid files of each kind, and near misses.

    python3 fuzz/make_corpus.py        writes fuzz/corpus/fuzz_{gguf,safetensors,imatrix,stats,calib_data,hf_config,json}/
Only the standard library is needed.
"""
import json
import os
import struct

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
SCALAR = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q",
          F64: "<d"}


def put(target, name, data):
    folder = os.path.join(ROOT, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    if kind == STR:
        return string(v)
    if kind == ARR:
        elem, items = v
        return struct.pack("<IQ", elem, len(items)) + b"".join(value(elem, x) for x in items)
    return struct.pack(SCALAR[kind], v)


def gguf(kvs, tensors, version=3, alignment=32):
    """kvs: (key, type, value); tensors: (name, ne, type number, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kvs))
    for key, kind, v in kvs:
        out += string(key) + struct.pack("<I", kind) + value(kind, v)
    offset, data = 0, b""
    for name, ne, kind, body in tensors:
        out += string(name) + struct.pack("<I", len(ne)) + b"".join(struct.pack("<Q", n) for n in ne)
        out += struct.pack("<IQ", kind, offset)
        body += bytes(-len(body) % alignment)
        data += body
        offset += len(body)
    return out + bytes(-len(out) % alignment) + data


def safetensors(header, n):
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(range(n))


def dat(entries, tail=b""):
    out = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        out += struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, len(values))
        out += struct.pack("<%df" % len(values), *values)
    return out + tail


def main():
    arch = [("general.architecture", STR, "llama")]
    kinds = [("k.u8", U8, 255), ("k.i8", I8, -1), ("k.u16", U16, 9), ("k.i16", I16, -9), ("k.u32", U32, 1), ("k.i32", I32, -1),
             ("k.f32", F32, 0.5), ("k.bool", BOOL, 1), ("k.u64", U64, 2**63), ("k.i64", I64, -1), ("k.f64", F64, 1e300)]
    arrays = [("a.s", ARR, (STR, ["a", "", "ab"])), ("a.i", ARR, (I32, [1, 2])), ("a.b", ARR, (BOOL, [0, 1])),
              ("a.none", ARR, (F32, []))]
    vec = ("x", [3], 0, struct.pack("<3f", 1, 2, 3))
    put("fuzz_gguf", "empty", gguf([], []))
    put("fuzz_gguf", "kinds", gguf(arch + kinds + arrays, []))
    put("fuzz_gguf", "tensors", gguf(arch, [vec, ("w", [32, 2], 8, bytes(68)), ("h", [4, 1, 2], 1, bytes(16)), ("s", [], 0, bytes(4))]))
    put("fuzz_gguf", "kquants", gguf([], [("q%d" % t, [256], t, bytes(n)) for t, n in
                                          [(10, 84), (11, 110), (12, 144), (13, 176), (14, 210), (20, 144), (23, 136)]]))
    put("fuzz_gguf", "aligned", gguf([("general.alignment", U32, 64)], [vec, ("y", [1], 0, bytes(4))], alignment=64))
    put("fuzz_gguf", "split", gguf([("split.no", U16, 0), ("split.count", U16, 2), ("split.tensors.count", I32, 1)], [vec]))
    put("fuzz_gguf", "version2", gguf(arch, [vec], version=2))
    put("fuzz_gguf", "bigendian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))

    t = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    put("fuzz_safetensors", "one", safetensors({"__metadata__": {"format": "pt"}, "a": t}, 8))
    put("fuzz_safetensors", "several", safetensors(
        {"b": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]}, "a": t,
         "s": {"dtype": "I64", "shape": [], "data_offsets": [16, 24]}, "u": {"dtype": "U8", "shape": [1, 1, 1, 1], "data_offsets": [24, 25]}}, 25))
    put("fuzz_safetensors", "empty", safetensors({}, 0))
    put("fuzz_safetensors", "hole", safetensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, 2))

    keys = [("general.type", STR, "imatrix"), ("imatrix.datasets", ARR, (STR, ["text"])), ("imatrix.chunk_count", U32, 2),
            ("imatrix.chunk_size", U32, 512)]
    put("fuzz_imatrix", "gguf", gguf(keys, [("a.in_sum2", [2, 1], 0, struct.pack("<2f", 1, 2)), ("a.counts", [1, 1], 0, struct.pack("<f", 4))]))
    put("fuzz_imatrix", "experts", gguf(keys, [("e.counts", [1, 2], 0, struct.pack("<2f", 0, 3)),
                                               ("e.in_sum2", [2, 2], 0, struct.pack("<4f", 0, 0, 1, 2)), ("e.stats", [1], 0, bytes(4))]))
    put("fuzz_imatrix", "dat", dat([(b"a", 2, [1, 2]), (b"b", 1, [3])], struct.pack("<ii", 2, 4) + b"text"))
    put("fuzz_imatrix", "dat-old", dat([(b"a", 2, [1, 2])]))
    put("fuzz_imatrix", "dat-nan", dat([(b"a", 2, [float("nan"), float("inf"), -1])]))

    group = {"cols": 2, "tokens": 3, "sample": 1, "linears": ["a", "b"]}
    doc = {"version": 1, "model": {"norms": "00"}, "runs": [{"windows": 1}], "groups": [group]}
    shapes = {"mean_square": [2], "absmax": [2], "min": [2], "max": [2], "mean_abs": [2], "mean": [2], "gram": [3], "sample": [1, 2]}
    head, at = {"__metadata__": {"format": "pt", "halftone.stats": json.dumps(doc)}}, 0
    for kind, shape in shapes.items():
        n = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        head["a." + kind] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    put("fuzz_stats", "all", struct.pack("<Q", len(text)) + text + struct.pack("<%df" % (at // 4), *range(at // 4)))
    put("fuzz_stats", "nan", struct.pack("<Q", len(text)) + text + b"\xff" * at)

    put("fuzz_calib_data", "jsonl", b'{"text": "a"}\n\n"b"\r\n{"messages": [{"role": "user", "content": "c"}]}\n[1, 2]\n{"input_ids": [3]}')
    for descr, n in (("<i4", 4), ("<u2", 2), ("<i8", 8)):
        text = ("{'descr': '%s', 'fortran_order': False, 'shape': (2, 3), }\n" % descr).encode()
        put("fuzz_calib_data", "npy%d" % n, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(range(6 * n)))

    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "rope_theta": 1e4,
              "tie_word_embeddings": True, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    index = {"metadata": {"total_size": 3}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    put("fuzz_hf_config", "config", json.dumps(config).encode())
    put("fuzz_hf_config", "index", json.dumps(index).encode())
    put("fuzz_hf_config", "escape", b'{"weight_map":{"a":"../x.safetensors"}}')
    # A folder of our own: length and text of config.json, then the safetensors file. One weight of 2 x 8 as uint4:g4.
    rows, cols = 2, 8
    parts = {"codes": ("U8", [rows, 4], bytes(range(8))), "scales": ("F16", [rows, 2], b"\x00\x3c" * 4),
             "zeros": ("U8", [rows, 1], b"\x87\x78"), "in_scale": ("F32", [cols], struct.pack("<8f", *[2] * 8)),
             "perm": ("U32", [cols], struct.pack("<8I", 7, 6, 5, 4, 3, 2, 1, 0)),
             "out_idx": ("U32", [2], struct.pack("<2I", 1, 6)), "out_val": ("F16", [rows, 2], b"\x00\x38" * 4),
             "sp_ptr": ("U32", [3], struct.pack("<3I", 0, 1, 3)), "sp_idx": ("U32", [3], struct.pack("<3I", 2, 0, 7)),
             "sp_val": ("F16", [3], b"\x00\x34" * 3), "lr_a": ("F16", [1, cols], b"\x00\x30" * 8),
             "lr_b": ("F16", [rows, 1], b"\x00\x30" * 2), "act_idx": ("U32", [2], struct.pack("<2I", 0, 3)),
             "act_scale": ("F32", [2], struct.pack("<2f", 0.5, 0.25)), "act_zero": ("I32", [2], struct.pack("<2i", 3, 9))}
    order = sorted(parts, key=lambda k: -{"U8": 1, "F16": 2}.get(parts[k][0], 4))
    at, header, data = 0, {}, b""
    for name in order:
        dtype, shape, raw = parts[name]
        header["w." + name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at, data = at + len(raw), data + raw
    entry = {"format": "uint4:g4", "shape": [rows, cols], "act": "uint4:tensor", "threshold": 3.0, "hadamard": 4}
    folder = json.dumps({"quantization_config": {"quant_method": "halftone", "version": 1, "weights": {"w": entry}}}).encode()
    file = safetensors(header, 0) + data
    put("fuzz_container_halftone", "all", struct.pack("<I", len(folder)) + folder + file)
    blocks = json.dumps({"quantization_config": {"quant_method": "halftone", "version": 1, "weights":
                         {"w": {"format": "q8_0", "shape": [1, 32]}}}}).encode()
    put("fuzz_container_halftone", "blocks", struct.pack("<I", len(blocks)) + blocks + safetensors(
        {"w.codes": {"dtype": "U8", "shape": [1, 34], "data_offsets": [0, 34]}}, 34))

    put("fuzz_json", "config", json.dumps(config, indent=1).encode())
    put("fuzz_json", "escapes", rb'["\u00e9\ud83d\ude00\n\t\"\\\/\b\f\r", -0, 1e5, 1.5E-3, 9223372036854775807, true, false, null]')
    put("fuzz_json", "nest", b"[[[[[[[[1]]]],{}]]]]")
    put("fuzz_json", "bad", b'{"a":1,"a":2}')


if __name__ == "__main__":
    main()
