#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden tables of the tensor types stock llama.cpp gives for every preset.

  make_presets.py --quantize LLAMA_QUANTIZE --model X.gguf [--imatrix X.imatrix.gguf] --name NAME
                  --out NAME.json [--full FULL.json] [--keep DIR]

Runs `llama-quantize --allow-requantize --dry-run` for each preset, with and without the importance
matrix, and reads the plan. Output (compact):
  tensors: {pattern: [source type, ne0, ne1, ...]}      all tensors of the model
  presets: {preset: {"plain": {type: [pattern, ...]}, "imatrix": {...} or "same",
                     "needs_imatrix": true if the run would refuse without one,
                     "fallbacks": tensors that could not take their type,
                     or "error": message}}
A pattern is a tensor name; in blk.{...} the braces hold the layers (ranges joined by commas), *
stands for all layers. Only tensors whose type the preset decides are listed (those stored as f32 for
every preset, norms and biases, are left out).
--full writes {preset: {"plain"|"imatrix": {tensor: type}}} for every tensor.
"""
import argparse
import json
import os
import re
import subprocess

PRESETS = """F32 F16 BF16 Q8_0 Q6_K Q5_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS MXFP4_MOE
Q3_K Q3_K_L Q3_K_M Q3_K_S IQ3_M IQ3_S IQ3_XS IQ3_XXS Q2_K Q2_K_S Q2_0 IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S TQ2_0 TQ1_0
Q1_0""".split()
LINE = re.compile(r"^\[ *\d+/ *\d+\] +(\S+) +- \[([^]]*)\], type = *(\S+), size = *[\d.]+ MiB(?: -> *[\d.]+ MiB \((\S+)\))?")


def plan(args, preset, imatrix):
    cmd = [args.quantize, "--allow-requantize", "--dry-run"] + (["--imatrix", imatrix] if imatrix else []) + [args.model, preset]
    run = subprocess.run(cmd, capture_output=True, text=True, errors="replace", timeout=300)
    text = run.stdout + run.stderr
    if args.keep:
        with open(os.path.join(args.keep, "%s.%s.%s.txt" % (args.name, preset, "imatrix" if imatrix else "plain")), "w") as f:
            f.write(text + "rc %d\n" % run.returncode)
    shapes, types = {}, {}
    for line in text.splitlines():
        m = LINE.match(line)
        if m:
            ne = [int(x) for x in m.group(2).split(",")]
            while len(ne) > 1 and ne[-1] == 1:
                ne.pop()
            shapes[m.group(1)] = [m.group(3)] + ne
            types[m.group(1)] = m.group(4) or m.group(3)
    info = {}
    if run.returncode:
        m = re.search(r"failed to quantize: (?!model)(.*)", text)
        info["error"] = m.group(1) if m else "rc %d" % run.returncode
    if "will require an imatrix" in text:
        info["needs_imatrix"] = True
    m = re.search(r"(\d+) of \d+ tensor\(s\) required fallback", text)
    if m:
        info["fallbacks"] = int(m.group(1))
    m = re.search(r"quant size += +([\d.]+) MiB", text)
    if m:
        info["mib"] = float(m.group(1))
    return shapes, types, info


def ranges(layers):
    out, run = [], []
    for i in sorted(layers) + [None]:
        if run and i != run[-1] + 1 if i is not None else run:
            out.append(str(run[0]) if len(run) == 1 else "%d-%d" % (run[0], run[-1]))
            run = []
        if i is not None:
            run.append(i)
    return ",".join(out)


def fold(names, all_layers):
    """Tensor names -> patterns."""
    groups, out = {}, []
    for name in names:
        m = re.match(r"blk\.(\d+)\.(.*)$", name)
        if m:
            groups.setdefault(m.group(2), []).append(int(m.group(1)))
        else:
            out.append(name)
    for rest, layers in groups.items():
        out.append("blk.%s.%s" % ("*" if set(layers) == all_layers[rest] else "{%s}" % ranges(layers), rest))
    return sorted(out)


def by_value(table, all_layers, skip):
    inv = {}
    for name, value in table.items():
        if name not in skip:
            inv.setdefault(value, []).append(name)
    return {value: fold(names, all_layers) for value, names in sorted(inv.items())}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--quantize", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--imatrix")
    ap.add_argument("--name", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--full")
    ap.add_argument("--keep", help="keep the raw outputs here")
    args = ap.parse_args()

    raw, shapes = {}, {}
    for preset in PRESETS:
        raw[preset] = {}
        for kind, imatrix in (("plain", None), ("imatrix", args.imatrix)):
            if kind == "plain" or imatrix:
                s, types, info = plan(args, preset, imatrix)
                if len(s) > len(shapes):
                    shapes = s
                raw[preset][kind] = (types, info)

    all_layers = {}
    for name in shapes:
        m = re.match(r"blk\.(\d+)\.(.*)$", name)
        if m:
            all_layers.setdefault(m.group(2), set()).add(int(m.group(1)))
    skip = {n for n in shapes if shapes[n][0] == "f32" and all(
        t.get(n, "f32") == "f32" for p in raw.values() for t, _ in p.values())}
    tensors = {}
    for key, names in by_value({n: json.dumps(v) for n, v in shapes.items()}, all_layers, set()).items():
        for pattern in names:
            tensors[pattern] = json.loads(key)
    presets, full = {}, {}
    for preset, kinds in raw.items():
        row = {}
        for kind, (types, info) in kinds.items():
            if "error" in info:
                row[kind] = {"error": info["error"]}
                continue
            full.setdefault(preset, {})[kind] = types
            row[kind] = by_value(types, all_layers, skip)
            if kind == "plain" and info.get("needs_imatrix"):
                row["needs_imatrix"] = True
            if info.get("fallbacks"):
                row["fallbacks"] = info["fallbacks"]
        if row.get("imatrix") == row.get("plain"):
            row["imatrix"] = "same"
        presets[preset] = row
    with open(args.out, "w", encoding="ascii", newline="\n") as f:
        f.write('{"model": %s,\n"tensors": {\n' % json.dumps(args.name))
        f.write(",\n".join("  %s: %s" % (json.dumps(k), json.dumps(v)) for k, v in sorted(tensors.items())))
        f.write('},\n"presets": {\n')
        f.write(",\n".join("  %s: %s" % (json.dumps(k), json.dumps(v)) for k, v in presets.items()))
        f.write("}}\n")
    if args.full:
        with open(args.full, "w", encoding="ascii", newline="\n") as f:
            json.dump(full, f, separators=(",", ":"))
            f.write("\n")


if __name__ == "__main__":
    main()
