# Registries: a table for people, an array of objects with a name and a summary for programs.
. "$(dirname "$0")/../lib.sh"
for r in $("$HALFTONE" list --help | sed -n 's/^usage: halftone list //p' | tr -d '|'); do
    t 0 list "$r" --json; no_err
    json 'isinstance(d, list) and len(d) > 0 and all(r["name"] and r["summary"] for r in d)'
    json 'len({(r.get("axis"), r["name"]) for r in d}) == len(d)'
    t 0 list "$r"; no_err; out '^name '
done
t 0 list presets --json
json '{"Q4_K_M", "Q8_0", "Q6_K", "Q5_K_M", "Q3_K_S", "Q2_K", "IQ4_XS", "IQ4_NL"} <= {r["name"] for r in d}'
t 0 list formats --json
json '{"f32", "f16", "bf16", "q4_0", "q8_0", "q4_k", "q6_k", "iq4_nl", "iq4_xs"} <= {r["name"].lower() for r in d}'
t 0 list methods --json
json '{"rtn", "imatrix"} <= {r["name"] for r in d}'
json 'all(r["range"] and r["round"] and r["needs"] and r["leaves"] for r in d)'
t 0 list parts --json
json '{("range", "own"), ("range", "mse"), ("round", "nearest"), ("round", "feedback")} <= {(r["axis"], r["name"]) for r in d}'
json 'all(r["source"] and r["formula"] and r["places"] and (r["gguf_types"] or r["schemes"]) for r in d)'
json 'all(o["low"] <= o["default"] <= o["high"] for r in d for o in r["option_help"])'
t 0 list ranges --json
json '{"absmax", "minmax", "percentile", "entropy", "mse", "wmse", "half-quadratic", "moving-average"} == {r["name"] for r in d}'
json 'all(o["low"] <= o["default"] <= o["high"] for r in d for o in r["option_help"])'
json '{r["name"]: r["for"] for r in d}["moving-average"] == "activations:tensor"'
json 'all("weights" in r["places"] for r in d if r["name"] != "moving-average")'
t 0 list parts; out '^entropy +range +weights:tensor, activations:tensor '
t 0 list architectures --json
json '{"llama", "qwen2", "qwen3"} <= {r["name"] for r in d}'
t 0 list pretokenizers --json
json '{"gpt-2", "llama-bpe", "qwen2", "smollm"} <= {r["name"] for r in d}'
t 0 list chats --json
json '{"chatml", "llama3"} <= {r["name"] for r in d}'
t 2 list format; no_out; err 'did you mean.*formats'
t 2 list zebras; err 'zebras'

# The table of formats: every row says what it is for and where it runs.
t 0 list formats
out '^name .*bits/weight.*range.*max.*min normal.*eps.*use.*hardware'
out '^q4_k +4.5 +256 +144 +0 .. 15 x scale '
t 0 list formats --json
json 'all(r["use"] and r["hardware"] and r["range"] for r in d)'
json 'all(r["bits_per_weight"] == 8 * r["block_bytes"] / r["block"] for r in d)'
json 'all(abs(r["dynamic_range_db"] - 20 * r["decades"]) < 1e-6 for r in d if r["decades"] is not None)'
json '[r["max"] for r in d if r["name"] == "u16"] == [65535]'

# Error curves: known figures, the same bytes for any number of threads, a figure that is XML.
t 0 list formats --curve --json --rows 4 --threads 1
cp .out one
json 'd["schema"] == "halftone.curve/1" and {s["name"] for s in d["sources"]} == {"gaussian", "laplace", "student-t"}'
json 'all(l["bound"] < l["lloyd_max"] <= l["uniform"] * 1.000001 for s in d["sources"] for l in s["limits"])'
json '[round(l["lloyd_max"], 4) for l in d["sources"][0]["limits"] if l["levels"] in (2, 4, 16)] == [0.3634, 0.1175, 0.0095]'
json 'all(f["gaussian"]["gap_bits"] > 0 for f in d["formats"])'
json 'len(d["formats"]) > 35'
json '0.0045 < [f for f in d["formats"] if f["name"] == "q4_k"][0]["gaussian"]["relative_error"] < 0.0052'
json '[round(l["constant_db"], 2) for l in d["laws"]] == [0.0, 1.76, -7.27]'
t 0 list formats --curve --json --rows 4 --threads 3
same .out one
t 0 list formats --curve --format q4_0 --format Q6_K --source laplace --rows 4 -o c.svg
out 'above bound'; out '^q4_0 +4.5 '; not_out '^q8_0'; err 'wrote c.svg'
if have python3; then
    python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' c.svg || fail "c.svg is no XML"
fi
check grep -q 'Shannon bound' c.svg
check grep -q '>q6_k</text>' c.svg
t 2 list formats --curve --format q4_0 -o c.svg; err 'c.svg'; err 'exists'
t 0 list formats --curve --format q4_0 --rows 1 -o c.svg --force
t 2 list formats --curve --format q4_9; err 'did you mean'
t 2 list formats --curve --format i8
t 2 list formats --curve --format int4; err 'int4:g64'
t 0 list formats --curve --format int4:g64 --range minmax --rows 1 --json
json 'd["formats"][0]["range"] == "minmax"'
t 2 list formats --curve --source cauchy
t 2 list formats --curve --rows 0
t 2 list presets --curve; err 'list formats --curve'
t 2 list formats -o x.svg; gone x.svg
finish
