# The examples that --help shows run as they stand, in a folder that has the files they name.
# Every example is run: minutes under a sanitizer.   ht-suite: long
. "$(dirname "$0")/../lib.sh"
have python3 || skip "needs python3 to take the examples apart"
mkdir -p bin home/.local/share/man/man1
ln -s "$HALFTONE" bin/halftone
export PATH=$tmp/bin:$PATH HOME=$tmp/home
cp -rL "$tiny" model
chatml model/tokenizer_config.json
small_text train.txt 4000
small_text wiki.test.raw 4000
t 0 convert model/ -o model-f16.gguf --dtype f16
cp model-f16.gguf model.gguf
t 0 imatrix collect model-f16.gguf --text train.txt -o imatrix.gguf
cp imatrix.gguf a.gguf
cp imatrix.gguf b.gguf
t 0 stats collect model-f16.gguf --calib train.txt --gram -o stats.safetensors
cp stats.safetensors a.safetensors
cp stats.safetensors b.safetensors
t 0 quantize model-f16.gguf -o model-Q4_K_M.gguf --format Q4_K_M
for q in q4_0:q4 q8_0:q8; do
    "$HALFTONE" quantize model-f16.gguf -o ${q#*:}.gguf --format ${q%:*} --json >${q#*:}.quantize.json 2>/dev/null
    "$HALFTONE" eval ${q#*:}.gguf --reference model-f16.gguf --text train.txt --json >${q#*:}.eval.json 2>/dev/null
done
cp -r . ../"$(basename "$tmp").keep"
cleanup() { rm -rf "$tmp.keep"; }
n=0
while IFS= read -r line; do
    # Each example starts from the same files: outputs of earlier ones would stand in the way.
    rm -rf ./* && cp -r "$tmp.keep"/. . && n=$((n + 1))
    last=$line
    made=$(sed -n 's/.* -o \([^ ]*\).*/\1/p' <<<"$line")
    [ -z "$made" ] || rm -rf "${made:?}"
    echo 'Say something.' | timeout 120 bash -c "$line" >.out 2>.err || fail "example exits with $?"
done < <(for c in $(commands); do "$HALFTONE" "$c" --help | sed -n '/^Examples/,/^$/s/^  \([^#].*\)/\1/p'; done)
check [ "$n" -ge 15 ]
finish
