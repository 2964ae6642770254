# Truncated and hostile files end with 3 and a message: no crash, no output, no hang.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o whole.gguf --dtype f16
size=$(stat -c %s whole.gguf)
refused() { # FILE WHAT: no writer takes it
    last="$2"
    timeout 20 "$HALFTONE" quantize "$1" -o x.gguf --format Q4_0 >.out 2>.err
    rc=$?
    [ $rc -eq 3 ] || fail "quantize: exit code $rc"
    check [ -s .err ]
    gone x.gguf
}
hostile() { # FILE WHAT: no reader either
    refused "$@"
    timeout 20 "$HALFTONE" inspect "$1" >.out 2>.err
    rc=$?
    [ $rc -eq 3 ] || fail "inspect: exit code $rc"
    check [ -s .err ]
}
for cut in 1 3 4 7 8 15 16 23 24 31 40 100 1000 30000 $((size / 2)) $((size - 1)); do
    head -c "$cut" whole.gguf >cut.gguf
    hostile cut.gguf "the first $cut bytes"
done
head -c 262144 whole.gguf >head.bin
patch() { # OFFSET BYTES: a copy with bytes replaced
    cp whole.gguf bad.gguf
    printf "$2" | dd of=bad.gguf bs=1 seek="$1" conv=notrunc status=none
}
ff='\377\377\377\377\377\377\377\377'
patch 0 'GGML'; hostile bad.gguf 'other magic'
patch 4 '\0\0\0\3'; hostile bad.gguf 'big endian version'
patch 4 '\377\377\377\377'; hostile bad.gguf 'version 4294967295'
patch 8 "$ff"; hostile bad.gguf '2^64-1 tensors'
patch 8 '\0\0\0\0\0\0\0\100'; hostile bad.gguf '2^62 tensors'
patch 16 "$ff"; hostile bad.gguf '2^64-1 keys'
patch 16 '\0\0\0\0\1\0\0\0'; hostile bad.gguf '2^32 keys'
patch 24 "$ff"; hostile bad.gguf 'key of 2^64-1 bytes'
patch 24 '\0\0\0\0\0\0\0\0'; hostile bad.gguf 'empty key'
keylen=$(od -An -t u8 -j 24 -N 8 whole.gguf | tr -d ' ')
patch $((32 + keylen)) '\377\377\377\377'; hostile bad.gguf 'unknown value type'
# A safetensors file that lies.
st() { # LENGTH-BYTES JSON
    rm -rf hf && cp -rL "$tiny" hf && chmod -R u+w hf
    printf "$1" >hf/model.safetensors
    printf %s "$2" >>hf/model.safetensors
    head -c 64 /dev/zero >>hf/model.safetensors
    hostile hf "safetensors: $2"
}
st '\377\377\377\377\377\377\377\377' '{}'
st '\0\0\0\0\0\0\0\0' '{}'
st '\100\0\0\0\0\0\0\0' '{"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]'
st '\72\0\0\0\0\0\0\0' '{"a":{"dtype":"F32","shape":[9999],"data_offsets":[0,64]}}'
st '\70\0\0\0\0\0\0\0' '{"a":{"dtype":"F99","shape":[16],"data_offsets":[0,64]}}'
st '\71\0\0\0\0\0\0\0' '{"a":{"dtype":"F32","shape":[16],"data_offsets":[64,0]}}'
folder() { # FILE CONTENT
    rm -rf hf && cp -rL "$tiny" hf && chmod -R u+w hf
    printf %s "$2" >"hf/$1"
    refused hf "$1: $(head -c 60 <<<"$2")"
}
folder config.json ''
folder config.json '{'
folder config.json '[]'
rm -rf hf && cp -rL "$tiny" hf
echo '{"model_type": "no-such-model"}' >hf/config.json
t 0 inspect hf; out 'unknown architecture'
t 3 quantize hf -o x.gguf --format Q4_0; err 'no-such-model'; err 'llama'; gone x.gguf
folder config.json "$(sed 's/"num_hidden_layers": 5/"num_hidden_layers": 999999999/' "$tiny/config.json")"
folder config.json "$(sed 's/"num_attention_heads": 4/"num_attention_heads": 0/' "$tiny/config.json")"
folder config.json "$(sed 's/"hidden_size": 256/"hidden_size": -256/' "$tiny/config.json")"
folder config.json "$(sed 's/"hidden_size": 256/"hidden_size": 128/' "$tiny/config.json")"
folder config.json "$(printf '[%.0s' $(seq 5000))"
folder tokenizer.json '{}'
folder tokenizer.json 'null'
for path in ../../../etc/passwd /etc/passwd .. a/b; do
    rm -rf hf && cp -rL "$tiny" hf && chmod -R u+w hf && mv hf/model.safetensors hf/m.safetensors
    echo "{\"weight_map\": {\"a\": \"$path\"}}" >hf/model.safetensors.index.json
    hostile hf "a shard named $path"
done
# Values: NaN among the weights is refused by name, or zeroed and counted when allowed.
cp whole.gguf nan.gguf
printf '\0\176' | dd of=nan.gguf bs=1 seek=$((size - 200)) conv=notrunc status=none
t 8 verify nan.gguf; out "checksum: .*ffn_down"; out "nonfinite: .*1 of [0-9]+ values"
t 3 verify nan.gguf --no-checksums; not_out "checksum: "; out "nonfinite"
t 3 quantize nan.gguf -o x.gguf --format Q4_0; err '[Nn]a[Nn]|finite'; err 'allow-nonfinite'; gone x.gguf
t 0 quantize nan.gguf -o x.gguf --format Q4_0 --allow-nonfinite --json; json 'd["nonfinite_zeroed"] == 1'
t 0 verify x.gguf
finish
