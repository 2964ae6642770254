# Missing files and things that are no model, for every command that reads one.
. "$(dirname "$0")/../lib.sh"
small_text text.txt 2000
t 0 convert "$tiny" -o m.gguf --dtype f16
each() { # CODE PATH REGEX
    t "$1" inspect "$2"; no_out; err "$3"
    t "$1" inspect "$2" --json; err "$3"
    t "$1" verify "$2"; err "$3"
    t "$1" convert "$2" -o x.gguf; no_out; err "$3"; gone x.gguf
    t "$1" quantize "$2" -o x.gguf --format Q4_0; no_out; err "$3"; gone x.gguf
    t "$1" eval "$2" --text text.txt; no_out; err "$3"
    t "$1" eval m.gguf --reference "$2" --text text.txt; no_out; err "$3"
    t "$1" run "$2" -p Hi; err "$3"
    t "$1" imatrix collect "$2" --text text.txt -o x.gguf; no_out; err "$3"; gone x.gguf
}
each 4 nowhere.gguf 'nowhere.gguf'
each 4 no/such/folder 'no/such/folder'
mkdir empty
each 3 empty 'empty'
: >zero.gguf
each 3 zero.gguf 'zero.gguf'
echo 'This is a text, not a model.' >text.gguf
each 3 text.gguf 'text.gguf'
cp "$story" story.gguf
each 3 story.gguf 'story.gguf'
each 3 /dev/null '/dev/null'
mkfifo pipe.gguf
each 3 pipe.gguf 'pipe.gguf'
ln -s loop.gguf loop.gguf
t 1 inspect loop.gguf; err 'loop.gguf'
mkdir half && cp "$tiny/config.json" half
each 4 half 'half'
cp "$tiny"/tokenizer*.json half
each 4 half 'half'
t 4 eval m.gguf --text none.txt; err 'none.txt'
t 4 imatrix merge none.gguf -o x.gguf; err 'none.gguf'; gone x.gguf
t 3 imatrix convert m.gguf -o x.dat; gone x.dat
t 4 report none.json -o x.html; err 'none.json'; gone x.html
t 3 report text.txt -o x.html; err 'text.txt'; gone x.html
: >empty.txt
"$HALFTONE" eval m.gguf --text empty.txt >.out 2>.err
rc=$? last="eval of an empty text"
check [ $rc -eq 2 -o $rc -eq 3 ]
err 'empty.txt|tokens'
finish
