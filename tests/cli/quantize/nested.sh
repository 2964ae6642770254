# Nested scales from a GGUF file, whose rows of q and k change places on the way to a folder: what the folder gives.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o f16.gguf --dtype f16
t 0 quantize f16.gguf -o out --method fp4 --dry-run
gone out
t 0 quantize f16.gguf -o out --method nf4
t 0 verify out
t 0 quantize "$tiny" -o direct --method nf4
t 0 eval out --reference direct --text "$story" --tokens 512 --ctx 128 --fail-if-kld 0
finish
