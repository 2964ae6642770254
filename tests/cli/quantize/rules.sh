# Rules that do nothing are said before work starts, each with its reason; rules that do something are not.
. "$(dirname "$0")/../lib.sh"
have python3 || skip "needs python3 to read the records"
plan() { # RULES OPTIONS...: plans with these rules
    printf 'name: mine\nweights: {format: "int8:channel"}\nactivations: {format: "int8:token"}\nrules: [%s]\n' "$1" >r.yaml
    shift
    t 0 quantize "$tiny" -o x --recipe r.yaml --dry-run --json "$@"
}
says() { err "rule $1 of the recipe $2"; json "any(w.startswith('rule $1 of the recipe') for w in d['warnings'])"; }
fine() { not_err 'of the recipe'; json "not any('of the recipe' in w for w in d['warnings'])"; }
outer='has no effect: outside of layers matrices have a format'
over='has no effect: later rules, or options, decide'
plan '{roles: [ffn_up], format: "int4:g64"}, {roles: [token_embd], activations: keep}'; says 2 "$outer"; not_err 'rule 1'
plan '{roles: [token_embd], round: nearest}'; says 1 "$outer"
plan '{roles: [token_embd], format: keep}'; fine
plan '{roles: [token_embd], format: keep}' --embd q8_0; says 1 "$over"
plan '{roles: [token_embd, ffn_down], activations: keep}'; fine
plan '{layers: 9-12, format: keep}'; says 1 '.layers 9-12. matches no tensor: the model has layers 0-4'
plan '{layers: 3-12, format: keep}'; fine
plan '{roles: [token_embd], layers: 0-1, format: keep}'; says 1 '.layers 0-1. matches no tensor: no matrix of its roles lies in a layer'
plan '{roles: [output], format: f16}'; says 1 'matches no tensor: the model has no such role .its head is the embedding'
plan '{layers: 0, format: keep}, {layers: 0, activations: keep}'; says 2 'has no effect: the weights that it is for stay floating point'
plan '{layers: 0, format: f16, round: nearest}'; fine
plan '{roles: [ffn_up], format: f16}, {layers: 0-4, format: "int4:g64"}'; says 1 "$over"; not_err 'rule 2'
plan '{roles: [ffn_up], format: f16}, {layers: 0-3, format: "int4:g64"}'; fine
plan '{roles: [ffn_up], format: f16}' --tensor ffn_up=q8_0; says 1 "$over"
# A rule that wants importance for some matrices leaves the others as they would be without.
t 0 imatrix collect "$tiny" --text "$story" --tokens 256 --ctx 64 -o im.gguf
printf 'name: mine\nweights: {format: q4_0, range: own}\nrules: [{roles: [ffn_down], range: weighted}]\n' >own.yaml
errors() { value "{t['role'] + str(i): t['rel_error_db'] for i, t in enumerate(d['tensors']) if t['role'] in ('ffn_up', 'ffn_down')}"; }
t 0 quantize "$tiny" -o a.gguf --recipe own.yaml --imatrix im.gguf --json; mixed=$(errors)
t 0 quantize "$tiny" -o b.gguf --method rtn --format q4_0 --pure --json; plain=$(errors)
t 0 quantize "$tiny" -o c.gguf --method imatrix --format q4_0 --pure --imatrix im.gguf --json; weighted=$(errors)
check python3 -c 'import sys
a, b, c = map(eval, sys.argv[1:])
assert a and all(a[k] == (c if "down" in k else b)[k] for k in a) and all(b[k] != c[k] for k in a)' "$mixed" "$plain" "$weighted"
no_leftovers
finish
