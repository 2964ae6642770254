# Formats whose scales lie apart: refused with the reason, before any work.
. "$(dirname "$0")/../lib.sh"
for f in int4:g64 NF4:G64:nested fp8_e4m3:tensor; do
    t 3 quantize "$tiny" -o out.gguf --format "$f"
    err 'keeps its scales apart from its codes, and GGUF has no type for that'
    gone out.gguf
done
t 3 quantize "$tiny" -o out.gguf --format nf4
err 'nf4 has no scales of its own, and GGUF has no type for it'
t 2 quantize "$tiny" -o out.gguf --format int4:g0
err "group 'g0': expected g1 to g1048576"
t 3 quantize "$tiny" -o out.gguf --format Q4_0 --tensor ffn_down=int4:channel
err 'int4:channel keeps its scales apart'
gone out.gguf
# Types of our own are written, and said to be so.
t 0 quantize "$tiny" -o out.gguf --format q4_0 --tensor attn_v=tr2
err "tr2 is a type of halftone's own: no other program will read this file"
finish
