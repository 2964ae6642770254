# What a folder needs beside the weights is known to be possible before weights are written.
. "$(dirname "$0")/../lib.sh"
"$HALFTONE" convert "$tiny" -o m.gguf --dtype f16 -q >/dev/null
# An unknown splitter: same length, so that only the name differs.
LC_ALL=C sed 's/gpt-2/xpt-9/' m.gguf >odd.gguf
t 3 convert odd.gguf -o folder --to hf
check [ ! -e folder/model.safetensors ]
mkdir half
echo '{}' >half/tokenizer.json
t 2 convert m.gguf -o half --to hf
err 'tokenizer.json.*exists already'
check [ ! -e half/model.safetensors ]
no_leftovers half
finish
