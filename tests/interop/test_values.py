"""gguf-py reads our files to the values that we decode, bit for bit; a converted model equals stock's converter."""
import hashlib
import json
import os

import numpy as np
from gguf import GGUFReader, quants

import ours
import tap

# Stock makes a title of the folder's name; we keep the name.
OWN = ("general.name",)
# What readers of the file take as given: head sizes that follow from the width, and that byte-level BPE adds no space.
IMPLIED = ("llama.attention.key_length", "llama.attention.value_length", "tokenizer.ggml.add_space_prefix")


def decoded(path):
    """Our decoding of a file: the f32 file that convert writes."""
    out = path + ".f32"
    if not os.path.exists(out):
        ours.halftone("convert", path, "-o", out, "--to", "gguf", "--dtype", "f32")
    return GGUFReader(out)


def compare(path):
    theirs, mine = GGUFReader(path), {t.name: t for t in decoded(path).tensors}
    bad, values = [], 0
    for t in theirs.tensors:
        a = quants.dequantize(t.data, t.tensor_type).astype(np.float32).ravel()
        b = mine.pop(t.name).data.ravel()
        values += a.size
        if b.dtype != np.float32 or not np.array_equal(a.view(np.uint32), b.view(np.uint32)):
            differ = np.flatnonzero(a != b) if a.shape == b.shape else []
            bad.append("%s (%s): %d of %d values" % (t.name, t.tensor_type.name, len(differ), a.size))
    tap.ok(not bad and not mine and values > 0, "%s: %d values, bit for bit" % (os.path.basename(path), values),
           "; ".join(bad[:4]))


def every_format():
    for row in ours.halftone("list", "formats", "--json")[1]:
        if row["kind"] == "int":
            continue  # carries indices, not weights
        code, _, err = ours.halftone("quantize", ours.tiny("f32"), "--format", row["name"], "--pure", "--dry-run",
                                     check=False)
        if code != 0:
            tap.skip("format %s" % row["name"], err.strip()[:160])
        elif not ours.gguf_py_decodes(row):
            tap.skip("format %s" % row["name"], "gguf-py cannot decode it")
        else:
            compare(ours.made("tiny-pure-%s.gguf" % row["name"], "quantize", ours.tiny("f32"), "--format", row["name"],
                              "--pure", "--imatrix", ours.tiny_imatrix()))


def references():
    """The reference files themselves, written by stock: our reader against gguf-py."""
    for name in ("ref-57m", "ref-135m"):
        path = ours.ref(name + ".gguf")
        if path is None:
            tap.skip(name, "HT_REF_DIR is not set")
            continue
        link = os.path.join(ours.WORK, name + ".gguf")
        if not os.path.lexists(link):
            os.symlink(path, link)
        compare(link)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def described(path):
    """As tests/oracle/make_convert.py: metadata, types, tensors."""
    meta, types, r = {}, {}, GGUFReader(path)
    for key, field in r.fields.items():
        v = field.contents()
        meta[key] = {"count": len(v), "sha256": sha("\n".join(map(str, v)).encode())} if isinstance(v, list) else v
        types[key] = "/".join(t.name for t in field.types)
    return meta, types, {t.name: [t.tensor_type.name.lower(), [int(n) for n in t.shape], sha(t.data.tobytes())]
                         for t in r.tensors}


def as_stock_converts():
    """Metadata keys, types and values, and every tensor's bytes, as convert_hf_to_gguf.py writes them."""
    for dtype, golden in (("f32", "tiny-f32"), ("f16", "tiny-f16"), ("bf16", "tiny")):
        with open(os.path.join(ours.GOLDEN, "convert", golden + ".json")) as f:
            want = json.load(f)
        meta, types, tensors = described(ours.tiny(dtype))
        left_out = [k for k in want["metadata"] if k not in meta]
        bad = ["%s: stock %s, ours %s" % (k, v, meta[k]) for k, v in want["metadata"].items()
               if k in meta and k not in OWN and (meta[k] != v or types[k] != want["types"][k])]
        tap.ok(not bad and set(left_out) <= set(IMPLIED) | set(OWN),
               "metadata of the %s file as stock's, %d keys" % (dtype, len(want["metadata"])),
               "; ".join(bad) or "left out: %s" % (" ".join(left_out) or "none"))
        extra = [k for k in meta if k not in want["metadata"] and not k.startswith(("GGUF.", "halftone."))]
        tap.ok(not extra, "no keys of other makers in the %s file" % dtype, " ".join(extra))
        bad = [k for k in set(tensors) | set(want["tensors"]) if tensors.get(k) != want["tensors"].get(k)]
        tap.ok(not bad, "the %s file's %d tensors have stock's bytes" % (dtype, len(tensors)), " ".join(sorted(bad)[:6]))


tap.run(as_stock_converts, every_format, references)
