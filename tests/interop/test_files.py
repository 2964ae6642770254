"""Files of independent writers go through ours and come out with every tensor and key as they were: gguf-py writes
and reads GGUF, the safetensors package reads folders, llama-gguf-split merges our splits."""
import glob
import json
import os
import shutil
import subprocess

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors import safe_open
from safetensors.numpy import load_file

import ours
import tap


def contents(reader):
    """Every tensor of a GGUF file: name -> (type, shape, bytes)."""
    return {t.name: (t.tensor_type.name, [int(n) for n in t.shape], t.data.tobytes()) for t in reader.tensors}


def keys(reader):
    """Every key: name -> value; what gguf-py adds about the file itself is left out."""
    return {k: f.contents() for k, f in reader.fields.items() if not k.startswith(("GGUF.", "split."))}


def fresh(name):
    path = os.path.join(ours.WORK, name)
    shutil.rmtree(path, ignore_errors=True)
    for old in glob.glob(path + "*"):
        if os.path.isfile(old):
            os.unlink(old)
    return path


def random_gguf(path, seed):
    """A model by its keys, with odd sizes, unused keys of every type, and many tensors."""
    rng = np.random.default_rng(seed)
    source = GGUFReader(ours.tiny("f32"))
    w = GGUFWriter(path, "llama")
    for name, field in source.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        sub = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
        w.add_key_value(name, field.contents(), field.types[0], sub)
    w.add_key_value("test.text", "\u4e16\u754c \U0001f600 " * int(rng.integers(1, 9)), GGUFValueType.STRING)
    w.add_key_value("test.numbers", [float(x) for x in rng.standard_normal(7)], GGUFValueType.ARRAY, GGUFValueType.FLOAT64)
    w.add_key_value("test.big", int(rng.integers(0, 2**63)) * 2 + 1, GGUFValueType.UINT64)
    w.add_key_value("test.flags", [True, False, True], GGUFValueType.ARRAY, GGUFValueType.BOOL)
    for t in source.tensors:
        w.add_tensor(t.name, rng.standard_normal(t.data.shape).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def gguf_py_files():
    """gguf-py writes, we convert without a change of type, gguf-py reads."""
    for seed in range(3):
        source, out = fresh("files-%d-in.gguf" % seed), fresh("files-%d-out.gguf" % seed)
        random_gguf(source, seed)
        ours.halftone("convert", source, "-o", out)
        a, b = GGUFReader(source), GGUFReader(out)
        ka, kb = keys(a), keys(b)
        lost = [k for k in ka if k.startswith(("test.", "tokenizer.", "llama.")) and ka[k] != kb.get(k)]
        tap.ok(contents(a) == contents(b) and not lost, "file %d of gguf-py: %d tensors and %d keys kept" %
               (seed, len(a.tensors), len(ka)), " ".join(lost))


def splits():
    """gguf-py reads each split; together they are the unsplit file; llama-gguf-split puts them together again."""
    whole = contents(GGUFReader(ours.tiny("f16")))
    for size in ("700K", "3M", "1G"):
        stem = fresh("files-split-%s" % size)
        ours.halftone("convert", ours.TINY, "--dtype", "f16", "-o", stem + ".gguf", "--shard-size", size)
        parts = sorted(glob.glob(stem + "-*-of-*.gguf"))
        union, numbers = {}, []
        for part in parts:
            reader = GGUFReader(part)
            union.update(contents(reader))
            numbers.append((int(reader.fields["split.no"].contents()), int(reader.fields["split.count"].contents()),
                            int(reader.fields["split.tensors.count"].contents())))
        expected = [(i, len(parts), len(whole)) for i in range(len(parts))]
        tap.ok(union == whole and numbers == expected, "%d splits of %s hold the whole model" % (len(parts), size))
        again = ours.halftone("convert", parts[-1], "-o", fresh("files-joined.gguf"), check=False)
        tap.ok(again[0] == 0 and contents(GGUFReader(os.path.join(ours.WORK, "files-joined.gguf"))) == whole,
               "the last of %d splits opens all" % len(parts), again[2][:200])
        stock = os.path.join(os.environ.get("HT_PEER_BIN", ""), "llama-gguf-split")
        if not os.path.exists(stock):
            tap.skip("llama-gguf-split merges %d splits" % len(parts), "HT_PEER_BIN is not set")
            continue
        merged = fresh("files-merged.gguf")
        p = subprocess.run([stock, "--merge", parts[0], merged], capture_output=True, text=True)
        tap.ok(p.returncode == 0 and contents(GGUFReader(merged)) == whole, "llama-gguf-split merges %d splits" % len(parts),
               p.stderr[-200:] if p.returncode else "")


def bf16_tensors(path):
    """A safetensors file of bf16, read by hand to f32: NumPy has no such type."""
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    out = {}
    for name, t in header.items():
        if name != "__metadata__":
            assert t["dtype"] == "BF16"
            begin, end = t["data_offsets"]
            bits = np.frombuffer(data[8 + n + begin:8 + n + end], dtype="<u2").astype(np.uint32) << 16
            out[name] = bits.view(np.float32).reshape(t["shape"])
    return out


def folders():
    """The safetensors package reads our folders, single and in shards, to the tensors of the original."""
    want = bf16_tensors(os.path.join(ours.TINY, "model.safetensors"))
    gguf = ours.made("tiny-bf16.gguf", "convert", ours.TINY, "--dtype", "bf16")
    for size in (None, "3M", "600K"):
        out = fresh("files-hf-%s" % (size or "one"))
        ours.halftone("convert", gguf, "-o", out, "--to", "hf", "--dtype", "f32", *(["--shard-size", size] if size else []))
        index = os.path.join(out, "model.safetensors.index.json")
        got, total, wrong = {}, None, []
        if size:
            with open(index) as f:
                doc = json.load(f)
            total = doc["metadata"]["total_size"]
            for file in sorted(set(doc["weight_map"].values())):
                part = load_file(os.path.join(out, file))
                wrong += [n for n in part if doc["weight_map"].get(n) != file]
                got.update(part)
                with safe_open(os.path.join(out, file), "np") as f:
                    wrong += [] if f.metadata() == {"format": "pt"} else [file]
            tap.ok(not wrong, "%s: %d files hold what the index says" % (os.path.basename(out), len(set(doc["weight_map"].values()))),
                   " ".join(wrong[:5]))
        else:
            got = load_file(os.path.join(out, "model.safetensors"))
        same = set(got) == set(want) and all(np.array_equal(got[n], want[n]) for n in want)
        tap.ok(same and total in (None, sum(x.nbytes for x in got.values())),
               "%s: the %d tensors of the original" % (os.path.basename(out), len(want)))


def importance():
    """gguf-py reads our importance file; merging one file with itself doubles sums and counts."""
    one, two = ours.tiny_imatrix(), fresh("files-twice.gguf")
    ours.halftone("imatrix", "merge", one, one, "-o", two)
    a, b = GGUFReader(one), GGUFReader(two)
    ta, tb = {t.name: t.data for t in a.tensors}, {t.name: t.data for t in b.tensors}
    tap.ok(list(ta) == list(tb) and sorted(ta)[0].endswith((".counts", ".in_sum2")) and
           all(np.array_equal(2 * ta[n], tb[n]) for n in ta), "importance: %d tensors, merged twice" % len(ta))
    dat, back = fresh("files-im.dat"), fresh("files-back.gguf")
    ours.halftone("imatrix", "merge", one, "-o", dat)
    ours.halftone("imatrix", "merge", dat, "-o", back)
    tc = {t.name: t.data for t in GGUFReader(back).tensors}
    worst = max(float(np.max(np.abs(tc[n].ravel() / tc[c].ravel()[0] - ta[n].ravel() / ta[c].ravel()[0]) /
                             (ta[n].ravel() / ta[c].ravel()[0] + 1e-30)))
                for n in ta if n.endswith(".in_sum2") for c in [n[:-len("in_sum2")] + "counts"])
    tap.ok(worst < 1e-6, "importance through .dat and back", "largest relative difference %.2g" % worst)


tap.run(gguf_py_files, splits, folders, importance)
