# Collecting, both layouts, merging.
. "$(dirname "$0")/../lib.sh"
small_text a.txt 3000
tail -c 5000 "$story" >b.txt
t 0 convert "$tiny" -o m.gguf --dtype f32
t 0 imatrix collect m.gguf --text a.txt -o a.gguf --json
json 'd["schema"].startswith("halftone.imatrix") and d["entries"] > 30 and d["tokens"] >= 512'
t 0 inspect a.gguf; out 'gguf, importance matrix,'; not_out '^role'
t 0 imatrix collect m.gguf --text a.txt -o a.dat; out 'a.dat: [0-9]+ entries'
t 0 imatrix collect m.gguf --text b.txt --tokens 1024 -o b.gguf --json; json 'd["tokens"] == 1024'
t 2 imatrix collect m.gguf --text a.txt -o a.gguf; err 'exists'
t 0 imatrix merge a.gguf b.gguf -o both.gguf --json
# The sum does not depend on the order, nor on the layout in between.
t 0 imatrix merge b.gguf a.gguf -o other.gguf
t 0 imatrix convert a.gguf -o a2.dat
t 0 imatrix convert a2.dat -o a3.gguf; out 'windows of unknown length'
for i in a.gguf a.dat a2.dat a3.gguf; do
    t 0 quantize m.gguf -o "q-$i.gguf" --format Q4_K_M --imatrix "$i"
done
t 0 quantize m.gguf -o plain.gguf --format Q4_K_M
check [ "$(cksum <q-a.gguf.gguf)" != "$(cksum <plain.gguf)" ]
t 0 quantize m.gguf -o q-both.gguf --format Q4_K_M --imatrix both.gguf
t 0 eval q-a.gguf.gguf --reference plain.gguf --text b.txt --json
json 'd["kld"]["mean"] > 0'
for i in a.dat a2.dat a3.gguf; do
    t 0 eval "q-$i.gguf" --reference q-a.gguf.gguf --text b.txt --exact --json
    json 'd["kld"]["mean"] < 1e-3'
done
# Names are bytes: a text and an output that are not UTF-8.
odd=$(printf 'caf\351')
cp a.txt "$odd.txt"
t 0 imatrix collect m.gguf --text "$odd.txt" -o "$odd.gguf" --json
json 'd["texts"] == ["caf?.txt"] and d["output"] == "caf?.gguf"'
t 0 imatrix merge "$odd.gguf" a.gguf -o x.gguf --json
json 'd["inputs"] == ["caf?.gguf", "a.gguf"] and d["texts"] == ["caf?.txt", "a.txt"]'
t 0 quantize m.gguf -o "$odd-q.gguf" --format Q4_0 --imatrix "$odd.gguf" --json
json 'd["output"]["path"] == "caf?-q.gguf" and d["imatrix"]["texts"] == ["caf?.txt"]'
t 0 eval "$odd-q.gguf" -r m.gguf --text "$odd.txt" --json
json 'd["model"]["path"] == "caf?-q.gguf" and d["texts"][0]["path"] == "caf?.txt" and "caf?.txt" in d["warnings"][0]'
t 0 run "$odd-q.gguf" -p 'She' -n 2 --json; json 'd["model"] == "caf?-q.gguf"'
rm x.gguf
# An output that cannot be written is refused before the model is read.
t 4 imatrix collect none.gguf --text a.txt -o nowhere/x.gguf; err "the folder 'nowhere/' does not exist"
t 4 imatrix merge none.gguf -o nowhere/x.gguf; err "the folder 'nowhere/' does not exist"
t 2 imatrix merge none.gguf -o a.gguf; err 'exists already'
# Importance of another shape is refused by name.
t 3 imatrix merge a.gguf m.gguf -o x.gguf; gone x.gguf
t 2 imatrix collect m.gguf --text a.txt --ctx 0 -o x.gguf; gone x.gguf
for o in "--text a.txt" "--tokens 64" "--ctx 64" --fast; do
    # shellcheck disable=SC2086
    t 2 imatrix merge a.gguf b.gguf -o x.gguf $o; err "${o%% *} says how to collect and has no effect on merge"
    # shellcheck disable=SC2086
    t 2 imatrix convert a.gguf -o x.dat $o; err "${o%% *} says how to collect and has no effect on convert"
done
t 2 imatrix convert a.gguf b.gguf -o x.dat; err 'convert takes one FILE; merge adds several up'; gone x.dat
no_leftovers
finish
