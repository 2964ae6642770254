#!/usr/bin/env python3
"""Makes tests/golden/io: files of independent writers that the readers and writers of src/io are held against.

    python3 tests/oracle/io_golden.py tests/golden/io [FOLDER-OF-STOCK-PROGRAMS [TINY.gguf]]

gguf-py.gguf            gguf-py: every kind of metadata, five tensors in four formats
stock-0000N-of-00002    llama-gguf-split --split-max-tensors 3 of that file
values.json             what gguf-py reads from it
stock-imatrix.{gguf,dat} llama-imatrix on TINY.gguf (models/tiny as f16), 3 chunks of 128 tokens of models/text; kept in
                        the other layout by llama-imatrix itself
hf/                     safetensors (Python package): model.safetensors and, in hf-shards/, shards with an index
Needs: gguf, numpy, safetensors.
"""
import json
import os
import subprocess
import sys

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, GGMLQuantizationType, quants
from safetensors.numpy import save_file


def make_gguf(path):
    rng = np.random.default_rng(7)
    w = GGUFWriter(path, "llama")
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 2**63 + 5)
    w.add_int64("t.i64", -(2**62))
    w.add_float32("t.f32", 1.5)
    w.add_float64("t.f64", 1e-300)
    w.add_bool("t.true", True)
    w.add_bool("t.false", False)
    w.add_string("t.text", "gr\u00fc\u00dfe \u4e16\u754c \U0001f600")
    w.add_string("t.blank", "")
    w.add_key_value("t.strings", ["a", "", "\u00e9\n"], GGUFValueType.ARRAY, GGUFValueType.STRING)
    w.add_key_value("t.ints", [1, -2, 3], GGUFValueType.ARRAY, GGUFValueType.INT32)
    w.add_key_value("t.floats", [0.5, -0.25], GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    w.add_key_value("t.bools", [True, False, True], GGUFValueType.ARRAY, GGUFValueType.BOOL)
    w.add_tensor("vector", rng.standard_normal(33).astype(np.float32))
    w.add_tensor("half", rng.standard_normal((3, 16)).astype(np.float16))
    q8 = quants.quantize(rng.standard_normal((4, 64)).astype(np.float32), GGMLQuantizationType.Q8_0)
    w.add_tensor("q8", q8, raw_dtype=GGMLQuantizationType.Q8_0)
    q4 = quants.quantize(rng.standard_normal((2, 3, 32)).astype(np.float32), GGMLQuantizationType.Q4_0)
    w.add_tensor("q4", q4, raw_dtype=GGMLQuantizationType.Q4_0)
    w.add_tensor("bias", rng.standard_normal(5).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def values(path):
    r = GGUFReader(path)
    out = {"tensors": []}
    for t in r.tensors:
        out["tensors"].append({"name": t.name, "type": t.tensor_type.name.lower(), "ne": [int(x) for x in t.shape],
                               "bytes": int(t.n_bytes), "head": bytes(t.data.tobytes()[:8]).hex()})
    return out


def make_hf(folder):
    rng = np.random.default_rng(9)
    tensors = {
        "model.embed_tokens.weight": rng.standard_normal((6, 4)).astype(np.float16),
        "model.layers.0.self_attn.q_proj.weight": rng.standard_normal((4, 4)).astype(np.float32),
        "model.norm.weight": np.arange(4, dtype=np.float32),
        "step": np.array(3, dtype=np.int64),
    }
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architectures": ["LlamaForCausalLM"], "hidden_size": 4}, f)
    shards = folder + "-shards"
    os.makedirs(shards, exist_ok=True)
    names = list(tensors)
    files = {"model-00001-of-00002.safetensors": names[:2], "model-00002-of-00002.safetensors": names[2:]}
    weight_map = {}
    for file, part in files.items():
        save_file({n: tensors[n] for n in part}, os.path.join(shards, file), metadata={"format": "pt"})
        weight_map.update({n: file for n in part})
    with open(os.path.join(shards, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}, f,
                  indent=2, sort_keys=True)
    with open(os.path.join(shards, "config.json"), "w") as f:
        json.dump({"architectures": ["LlamaForCausalLM"], "hidden_size": 4}, f)


def make_imatrix(program, model, out):
    texts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "text")
    run = [program, "-m", model, "-c", "128", "-t", "1"]
    gguf = os.path.join(out, "stock-imatrix.gguf")
    subprocess.run(run + ["-f", "northanger-abbey.txt", "--chunks", "3", "-o", gguf], cwd=texts, check=True)
    subprocess.run(run + ["--in-file", gguf, "--output-format", "dat", "-o", os.path.join(out, "stock-imatrix.dat")], cwd=texts,
                   check=True)


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, "gguf-py.gguf")
    make_gguf(path)
    with open(os.path.join(out, "values.json"), "w") as f:
        json.dump(values(path), f, indent=1)
        f.write("\n")
    if len(sys.argv) > 2:
        split = os.path.join(sys.argv[2], "llama-gguf-split")
        subprocess.run([split, "--split-max-tensors", "3", path, os.path.join(out, "stock")], check=True)
    if len(sys.argv) > 3:
        make_imatrix(os.path.join(sys.argv[2], "llama-imatrix"), os.path.realpath(sys.argv[3]), os.path.realpath(out))
    make_hf(os.path.join(out, "hf"))


if __name__ == "__main__":
    main()
