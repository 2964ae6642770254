#!/usr/bin/env python3
"""Golden importances for tests/unit/test_calib_ref.c from a file of stock llama-imatrix.

  imatrix_means.py FILE.gguf > golden/imatrix/NAME.txt

Made with: llama-imatrix -m ref-57m-f16.gguf -f wiki.valid.raw -c 512 --chunks 40 (b11434).
Each line: entry, count of tokens, inputs, then the importance (sum / count) of inputs 0, 97, 194, ... """
import sys

import numpy as np
from gguf import GGUFReader

tensors = {t.name: np.array(t.data).astype(np.float64).ravel() for t in GGUFReader(sys.argv[1]).tensors}
for name in sorted(tensors):
    if name.endswith(".in_sum2"):
        entry = name[:-len(".in_sum2")]
        count = tensors[entry + ".counts"][0]
        x = tensors[name] / count
        print(entry, int(count), len(x), " ".join("%.6g" % v for v in x[::97]))
