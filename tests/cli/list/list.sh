# Registries: a table for people, an array of objects with a name and a summary for programs.
. "$(dirname "$0")/../lib.sh"
for r in $("$HALFTONE" list --help | sed -n 's/^usage: halftone list //p' | tr -d '|'); do
    t 0 list "$r" --json; no_err
    json 'isinstance(d, list) and len(d) > 0 and all(r["name"] and r["summary"] for r in d)'
    json 'len({r["name"] for r in d}) == len(d)'
    t 0 list "$r"; no_err; out 'name.*summary'
done
t 0 list presets --json
json '{"Q4_K_M", "Q8_0", "Q6_K", "Q5_K_M", "Q3_K_S", "Q2_K", "IQ4_XS", "IQ4_NL"} <= {r["name"] for r in d}'
t 0 list formats --json
json '{"f32", "f16", "bf16", "q4_0", "q8_0", "q4_k", "q6_k", "iq4_nl", "iq4_xs"} <= {r["name"].lower() for r in d}'
t 0 list methods --json
json '{"rtn", "imatrix"} <= {r["name"] for r in d}'
t 0 list ranges --json
json '{"absmax", "minmax", "percentile", "entropy", "mse", "wmse", "half-quadratic", "moving-average"} == {r["name"] for r in d}'
json 'all(o["low"] <= o["default"] <= o["high"] for r in d for o in r["option_help"])'
t 0 list architectures --json
json '{"llama", "qwen2", "qwen3"} <= {r["name"] for r in d}'
t 0 list pretokenizers --json
json '{"gpt-2", "llama-bpe", "qwen2", "smollm"} <= {r["name"] for r in d}'
t 0 list chats --json
json '{"chatml", "llama3"} <= {r["name"] for r in d}'
t 2 list format; no_out; err 'did you mean.*formats'
t 2 list zebras; err 'zebras'
finish
