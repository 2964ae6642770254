# A folder that cannot be written: a message, exit code 1, nothing there.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o in.gguf --dtype f16
mkdir ro
if [ "$(id -u)" -ne 0 ]; then
    chmod a-w ro
    cleanup() { chmod u+w "$tmp/ro"; }
elif mount -t tmpfs -o size=64m,ro none ro 2>/dev/null; then
    cleanup() { umount "$tmp/ro"; }
elif chattr +i ro 2>/dev/null; then
    cleanup() { chattr -i "$tmp/ro"; }
else
    skip "no way to make a folder read-only here"
fi
t 1 quantize in.gguf -o ro/x.gguf --format Q8_0; no_out; err 'ro/x.gguf: .*(ermission|ead-only|not permitted)'
# Known before a text is read, or a model run on it.
t 1 quantize in.gguf -o ro/x.gguf --calib no-such-text --format Q4_0; err 'ro/x.gguf: .*(ermission|ead-only|not permitted)'
t 1 quantize in.gguf -o ro/x --method gptq --calib no-such-text --format int4:g64; err 'ro/x: .*(ermission|ead-only|not permitted)'
t 1 convert in.gguf -o ro/x.gguf --dtype f32; err 'ro/x.gguf'
t 1 convert in.gguf -o ro/hf --to hf; err 'ro/hf'
t 1 imatrix collect in.gguf --text "$story" --tokens 512 -o ro/i.gguf; err 'ro/i.gguf'
check [ -z "$(ls -A ro)" ]
finish
