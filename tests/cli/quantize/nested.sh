# Nested scales of rows that change places on the way from GGUF to a folder: refused with the plan.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o f16.gguf --dtype f16
for method in nf4 fp4; do
    t 3 quantize f16.gguf -o out --method $method --dry-run
    err 'blk.0.attn_[qk].weight: its rows change places .* start from a Hugging Face folder'
done
t 3 quantize f16.gguf -o out --method nf4
gone out.work
gone out
t 0 quantize f16.gguf -o plain --format int4:g64 --dry-run
t 0 quantize "$tiny" -o out --method nf4 --dry-run
finish
