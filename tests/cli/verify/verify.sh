# Sound files, a flipped bit, structure.
. "$(dirname "$0")/../lib.sh"
t 0 quantize "$tiny" -o q.gguf --format Q8_0
t 0 verify q.gguf; no_err; out 'q.gguf: sound'
t 0 verify q.gguf --json; json 'd["schema"] == "halftone.verify/1" and d["sound"] is True and d["findings"] == []'
t 0 verify "$tiny"; out 'sound'
t 0 verify "$tiny" --json; json 'd["sound"] is True'
size=$(stat -c %s q.gguf)
for at in $((size - 1000)) $((size / 2)); do
    cp q.gguf flipped.gguf
    byte=$(od -An -t u1 -j $at -N 1 q.gguf | tr -d ' ')
    printf "\\$(printf %o $((byte ^ 1)))" | dd of=flipped.gguf bs=1 seek=$at conv=notrunc status=none
    t 8 verify flipped.gguf; out 'NOT sound'; out 'checksum'
    t 8 verify flipped.gguf --json; json 'd["sound"] is False and len(d["findings"]) == 1 and d["findings"][0]["tensor"]'
    t 0 verify flipped.gguf --no-checksums
done
# Metadata: one letter of a value.
LC_ALL=C sed 's/halftone.format\(.\{12\}\)Q8_0/halftone.format\1Q8_1/' q.gguf >edited.gguf
check [ "$(cmp q.gguf edited.gguf | wc -l)" -eq 1 ]
t 8 verify edited.gguf; out 'checksum: header of edited.gguf: '; out 'NOT sound'
t 0 verify edited.gguf --no-checksums
# Folders carry theirs in a file.
t 0 convert q.gguf -o folder --to hf
t 0 verify folder; out 'folder: sound.* 5[0-9] checksums compared'
sed -i 's/"eos_token_id": [0-9]*/"eos_token_id": 7/' folder/generation_config.json
t 8 verify folder; out 'generation_config.json: .*changed'; err 'generation_config.json'
head -c $((size - 64)) q.gguf >short.gguf
t 3 verify short.gguf; err 'short.gguf'
finish
