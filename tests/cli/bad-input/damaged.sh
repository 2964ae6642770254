# Folders whose config.json cannot be: shown with a warning, refused by verify and run; those whose quantization_config
# cannot be are refused by all.
. "$(dirname "$0")/../lib.sh"
damaged() { # FROM SED: a folder "bad" like FROM, config.json changed
    rm -rf bad
    mkdir bad
    ln -s "$1"/* bad/
    rm bad/config.json
    sed "$2" "$1/config.json" >bad/config.json
    ! cmp -s "$1/config.json" bad/config.json || fail "nothing changed: $2"
}
for d in hidden_size:0 num_hidden_layers:-1 num_hidden_layers:1000000000 num_attention_heads:0 num_key_value_heads:0 \
    num_key_value_heads:3 vocab_size:5 rope_theta:0 head_dim:-64 intermediate_size:1e9 rms_norm_eps:-1; do
    damaged "$tiny" "s/\"${d%%:*}\": [^,]*/\"${d%%:*}\": ${d#*:}/"
    t 0 inspect bad; err 'warning: bad: .*verify. refuses it'; out 'bits per weight'
    t 3 verify bad --no-data --no-checksums
done
t 0 inspect bad --json; json 'len(d["warnings"]) == 1 and "cannot be" in d["warnings"][0] and d["architecture"] is None'
t 0 inspect "$tiny" --json; no_err; json 'd["warnings"] == []'

t 0 quantize "$tiny" -o packed --format int4:g64 -q
packed=$PWD/packed
refused() { # SED TEXT
    damaged "$packed" "$1"
    for c in inspect "verify --no-data" "run -p x -n 1"; do
        set -- "$1" "$2" "${c%% *}" "${c#"${c%% *}"}"
        # shellcheck disable=SC2086
        t 3 "$3" bad $4
        err "bad/config.json: .*$2"
    done
}
refused 's/"quant_method"/"kv_cache": "int99:token", "quant_method"/' "quantization_config.kv_cache: int99:token: unknown format 'int99'"
refused 's/"int4:g64"/"int4:g0"/' "quantization_config.weights: .*_proj.weight: format 'int4:g0': group 'g0': expected"
refused 's/"format": "int4:g64"/"act": "int8:channel", "format": "int4:g64"/' "act 'int8:channel': channel is for weights"
refused 's/"format": "int4:g64"/"hadamard": 3, "format": "int4:g64"/' 'hadamard block 3: expected a power of two'
refused 's/"format": "int4:g64"/"act": "int8:token", "threshold": -1, "format": "int4:g64"/' 'threshold -1: expected a positive'
finish
