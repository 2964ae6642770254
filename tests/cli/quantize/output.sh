# Outputs: never over an existing file, never over the input, under any name that leads to it.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o in.gguf --dtype f16
cp in.gguf copy.gguf
touched() { same in.gguf copy.gguf; }
echo precious >out.gguf
t 2 quantize in.gguf -o out.gguf --format Q4_0; no_out; err 'exists already.*--force'
check [ "$(cat out.gguf)" = precious ]
t 0 quantize in.gguf -o out.gguf --format Q4_0 --force; check [ "$(head -c 4 out.gguf)" = GGUF ]
ln in.gguf hard.gguf
ln -s in.gguf soft.gguf
mkdir sub && ln -s .. sub/up
for name in in.gguf ./in.gguf hard.gguf soft.gguf sub/../in.gguf sub/up/in.gguf "$tmp/in.gguf"; do
    for force in '' --force; do
        t 2 quantize in.gguf -o "$name" --format Q4_0 $force; err 'input|exists'; touched
        t 2 quantize "$name" -o in.gguf --format Q4_0 $force; touched
        t 2 convert in.gguf -o "$name" --dtype f32 $force; touched
    done
done
check [ -L soft.gguf ]
# A folder as input: neither it nor a file that it holds.
cp -rL "$tiny" model
for name in model model/ model/model.safetensors; do
    t 2 convert model -o "$name" --force; t 2 quantize model -o "$name" --format Q4_0 --force
done
check diff -r model "$tiny"
mkdir folder
t 2 quantize in.gguf -o folder --format Q4_0 --force
t 4 quantize in.gguf -o missing/x.gguf --format Q4_0; err 'missing'
t 2 quantize in.gguf -o '' --format Q4_0
# Already quantized input, and an imatrix of another model.
t 0 quantize in.gguf -o q8.gguf --format Q8_0
t 2 quantize q8.gguf -o q4.gguf --format Q4_0; err 'allow-requantize'; gone q4.gguf
t 0 quantize q8.gguf -o q4.gguf --format Q4_0 --allow-requantize
t 3 quantize in.gguf -o x.gguf --format Q4_0 --imatrix q8.gguf; gone x.gguf
t 4 quantize in.gguf -o x.gguf --format Q4_0 --imatrix none.gguf; gone x.gguf
no_leftovers
finish
