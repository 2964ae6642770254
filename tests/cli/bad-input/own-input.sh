# No command may write over what it reads: split inputs, models, texts, importance, records, special files.
. "$(dirname "$0")/../lib.sh"
cp "$story" text.txt
"$HALFTONE" convert "$tiny" -o m.gguf --dtype f16 -q >/dev/null
"$HALFTONE" convert m.gguf -o s.gguf --shard-size 3M -q >/dev/null
"$HALFTONE" imatrix collect m.gguf --text text.txt --tokens 1024 -o i.gguf -q >/dev/null
"$HALFTONE" eval m.gguf --text text.txt --tokens 1024 --json -q >e.json
first=$(ls s-00001-of-*.gguf)
before=$(sha256sum ./*.gguf text.txt e.json)

refuse() { # arguments: a command that must be refused with 2
    "$HALFTONE" "$@" --force -q >.out 2>.err
    [ $? -eq 2 ] || fail "expected exit code 2: $*"
}
refuse convert "$first" -o s.gguf --shard-size 3M --dtype f16
refuse quantize m.gguf --imatrix i.gguf -o i.gguf --format q8_0
refuse quantize m.gguf --calib text.txt --calib-tokens 512 -o text.txt --format q8_0
refuse imatrix collect m.gguf --text text.txt --tokens 512 -o m.gguf
refuse imatrix collect m.gguf --text text.txt --tokens 512 -o text.txt
refuse imatrix merge i.gguf -o i.gguf
refuse report e.json -o e.json
refuse convert m.gguf -o . --to hf
refuse convert ./m.gguf -o ../"$(basename "$PWD")" --to hf
mkdir model
"$HALFTONE" convert m.gguf -o model/hf --to hf -q >/dev/null
refuse convert model/hf -o model/hf --to hf
check [ ! -e config.json ]
mkfifo pipe.gguf
refuse convert m.gguf -o pipe.gguf
check [ -p pipe.gguf ]
rm pipe.gguf
check [ "$before" = "$(sha256sum ./*.gguf text.txt e.json)" ]
finish
