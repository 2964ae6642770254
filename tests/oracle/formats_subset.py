#!/usr/bin/env python3
"""Takes out of a file of ggml golden vectors what tests/unit/test_format*.c need.

    formats_subset.py ggml_types.safetensors tests/golden/formats/ggml.safetensors [lattice.safetensors]

The lattice formats go into the second file, next to the first.

The input file holds, for each ggml type T: T.plain.blocks and T.weighted.blocks (the rows `input` encoded by
ggml's quantizer without and with `importance`), T.*.decoded (ggml's own decoding, equal to that of the Python
package gguf bit for bit), T.codes.blocks and T.codes.decoded (arbitrary valid blocks and their values).
Only the types of the table and only byte-for-byte copies are written."""
import sys

from safetensors import safe_open
from safetensors.numpy import save_file

TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 Q2_0".split()

LATTICE_TYPES = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S".split()

src, *paths = sys.argv[1:]
for path, types in zip(paths, (["input", "importance"] + TYPES, LATTICE_TYPES)):
    with safe_open(src, "np") as f:
        save_file({name: f.get_tensor(name) for name in f.keys() if name.split(".")[0] in types}, path)
