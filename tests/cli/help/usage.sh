# Help goes to stdout with 0, usage errors to stderr with 2 and a way out.
. "$(dirname "$0")/../lib.sh"
t 2; no_out; err '^usage: halftone COMMAND'
for word in --help -h help; do
    t 0 "$word"; no_err; out '^usage: halftone COMMAND'; out '^Commands'
done
check [ "$(commands | wc -l)" -ge 12 ]
for c in $(commands); do
    t 0 "$c" --help; no_err; out "^usage: halftone $c"; out '^Common options'; out '--json'
    cp .out by-option
    t 0 help "$c"; same .out by-option
    t 0 "$c" -h; same .out by-option
    t 2 "$c" --no-such-option; no_out; err "^halftone $c: unknown option --no-such-option"; err "See 'halftone $c --help'"
    t 2 "$c" -Z; err "unknown option -Z"
    t 2 "$c" --threads x; err '--threads: expected a whole number.*, found .x.'
    t 2 "$c" --threads; err '--threads needs a value'
    t 2 "$c" --json=1; err '--json takes no value'
    t 2 "$c" --color pink; err 'expected one of auto\|always\|never, found .pink.'
    t 2 "$c" a b c d e f --jsno; err 'did you mean: --json'
done
t 2 quantise; no_out; err "unknown command 'quantise'; did you mean: quantize"; err "See 'halftone --help'"
t 2 xyzzy; err "unknown command 'xyzzy'$"
t 2 help evla; err "did you mean: eval"
t 2 quantize; err 'missing argument; usage: halftone quantize MODEL'
t 2 quantize a b; err "unexpected argument 'b'"
t 2 quantize a; err 'missing -o FILE'
for size in 2X 0 0G 0.5 -1; do
    t 2 quantize a --shard-size "$size" -n; err '--shard-size: expected a size of at least one byte, such as 2G'
done
t 2 quantize a --calib-tokns 3; err 'did you mean: --calib-tokens'
t 0 quantize --help; out 'calibration tokens; 0: all of the text'
t 2 quantize a --ctx=-1 -n; err '--ctx: expected a whole number'
t 2 quantize a --ctx 99999999999 -n; err '--ctx: expected a whole number'
t 2 convert a; err 'missing -o OUT'
t 2 convert a -o b --dtype int8; err 'expected one of f32\|f16\|bf16'
t 2 eval a; err 'missing --text FILE'
t 2 run a; err 'missing --prompt TEXT'
t 2 run a -p x --temp hot; err '--temp: expected a number'
t 2 imatrix collect; err 'missing argument'
t 2 imatrix collect a -o b; err 'needs one MODEL and --text FILE'
t 2 imatrix frobnicate a -o b; err "expected collect, merge or convert, found 'frobnicate'"
t 2 imatrix colect a -o b; err "found 'colect'; did you mean: collect"
t 2 imatrix merg a; err 'did you mean: merge'
t 2 imatrix merge a; err 'missing -o FILE'; err "See 'halftone imatrix --help'"
t 2 report a; err 'missing -o FILE'
t 2 list; err 'missing argument'
# Joined letters, a value glued to its letter, and -- before a name that starts with a dash.
t 4 quantize -qnt2 missing.gguf; err 'missing.gguf'
t 4 inspect -- --json; err '--json'
finish
