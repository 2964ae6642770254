#!/usr/bin/env python3
"""Takes out of a file of ggml golden vectors what tests/unit/test_format*.c need.

    formats_subset.py ggml_types.safetensors tests/golden/formats/ggml.safetensors

The input file holds, for each ggml type T: T.plain.blocks and T.weighted.blocks (the rows `input` encoded by
ggml's quantizer without and with `importance`), T.*.decoded (ggml's own decoding, equal to that of the Python
package gguf bit for bit), T.codes.blocks and T.codes.decoded (arbitrary valid blocks and their values).
Only the types of the table and only byte-for-byte copies are written."""
import sys

from safetensors import safe_open
from safetensors.numpy import save_file

TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 Q2_0".split()

src, dst = sys.argv[1:]
out = {}
with safe_open(src, "np") as f:
    for name in f.keys():
        if name in ("input", "importance") or name.split(".")[0] in TYPES:
            out[name] = f.get_tensor(name)
save_file(out, dst)
