# A dry run writes nothing and foretells the size of every preset exactly.
. "$(dirname "$0")/../lib.sh"
have python3 || skip "needs python3"
t 0 convert "$tiny" -o f16.gguf --dtype f16
small_text calib.txt 3000
t 0 imatrix collect f16.gguf --text calib.txt -o imat.gguf
"$HALFTONE" list presets --json >presets.json
n=0
for p in $(python3 -c 'import json; print(*[r["name"] for r in json.load(open("presets.json"))])'); do
    # The quick suite takes some of them, the whole one all.
    case $p in Q2_K|IQ4_NL|IQ1_M|IQ3_XXS|Q3_K_S|Q5_K_M|Q8_0) ;; *) [ "${HT_SUITE:-}" != check ] || continue ;; esac
    "$HALFTONE" quantize f16.gguf --format "$p" --imatrix imat.gguf --dry-run --json >.out 2>.err
    rc=$?
    last="plan $p"
    if [ $rc -ne 0 ]; then
        check [ $rc -eq 2 -o $rc -eq 3 ]
        continue
    fi
    check [ -z "$(find . -name '*.part' -o -name "$p.gguf")" ]
    json 'd["schema"] == "halftone.quantize/1" and d["dry_run"] is True'
    want=$(value 'd["bytes"]')
    t 0 quantize f16.gguf -o "$p.gguf" --format "$p" --imatrix imat.gguf --json
    json "d['bytes'] == $want == $(stat -c %s "$p.gguf")"
    rm "$p.gguf"
    n=$((n + 1))
done
check [ "$n" -ge 5 ]
t 0 quantize f16.gguf --format Q4_K_M --dry-run; out '^would write'; out 'predicted: .* peak memory'; out '^attn_q +f16 '; not_out 'blk.0'
t 0 quantize f16.gguf --format Q4_K_M --dry-run -v; out 'blk.0.attn_q'
t 0 quantize f16.gguf --format q4_k_m --dry-run; out 'would write'
# Overrides by role, the later one wins.
t 0 quantize f16.gguf --format Q4_0 --tensor ffn_down=q6_k --tensor ffn_down=q8_0 --embd f16 --dry-run --json
json 'all(x["format"].lower() == "q8_0" for x in d["tensors"] if "ffn_down" in x["name"])'
json '[x["format"].lower() for x in d["tensors"] if x["name"] == "token_embd.weight"] == ["f16"]'
t 0 quantize f16.gguf --format Q4_K_M --pure --dry-run --json
json '{x["format"].lower() for x in d["tensors"] if "norm" not in x["name"]} == {"q4_k"}'
# A split file: the sum of its parts.
t 0 quantize f16.gguf --format Q8_0 -o s.gguf --shard-size 2M --json
total=$(cat s-*-of-*.gguf | wc -c)
json "d['bytes'] == $total"
json "d['output']['path'] == '$(ls s-00001-of-*.gguf)' and d['output']['files'] == $(ls s-*-of-*.gguf | wc -l)"
# With a calibration the plan knows the metadata that it will bring.
t 0 quantize f16.gguf --format Q4_0 --calib calib.txt --dry-run --json
want=$(value 'd["bytes"]')
t 0 quantize f16.gguf --format Q4_0 --calib calib.txt -o c.gguf --seed 18446744073709551615 --json
json "d['bytes'] == $want == $(stat -c %s c.gguf)"
json 'd["seed"] == "18446744073709551615"'
t 0 eval c.gguf --text calib.txt --seed 9223372036854775808 --json; json 'd["seed"] == "9223372036854775808"'
t 0 run c.gguf -p x -n 1 --seed 18446744073709551615 --json; json 'd["seed"] == "18446744073709551615"'
t 2 quantize f16.gguf -o x.gguf --format Q4_K_N; err 'did you mean.*Q4_K_M'; gone x.gguf
t 2 quantize f16.gguf -o x.gguf --format Q8_0 --tensor ffn_dwn=q6_k; err 'ffn_down'; gone x.gguf
t 2 quantize f16.gguf -o x.gguf --format Q8_0 --tensor ffn_down=q6_q; err 'q6_k'; gone x.gguf
t 2 quantize f16.gguf -o x.gguf --format Q8_0 --tensor ffn_down; gone x.gguf
t 2 quantize f16.gguf -o x.gguf --format Q8_0 --method rtm; err 'rtn'; gone x.gguf
t 2 quantize f16.gguf -o x.gguf --format Q4_K_M --method imatrix; err 'imatrix|calib'; gone x.gguf
# Presets of so few bits that the search must know which weights matter.
t 2 quantize f16.gguf -o x.gguf --format IQ2_XS; err 'IQ2_XS needs importance: .*blk\.0\.attn_q\.weight as iq2_xs.*--imatrix'; gone x.gguf
t 2 quantize f16.gguf -o x.gguf --format Q2_K_S; err 'needs importance'; gone x.gguf
t 0 quantize f16.gguf --format IQ1_S --dry-run; err 'IQ1_S needs importance'
t 0 quantize f16.gguf -o x.gguf --format IQ3_S; rm x.gguf
t 0 quantize f16.gguf -o x.gguf --format Q4_0 --tensor ffn_up=iq2_xxs; rm x.gguf
# The head of a tied model is its embedding.
t 0 quantize "$tiny" --format q4_0 --head q8_0 --dry-run
err 'head is its embedding: --head sets both'
t 0 quantize "$tiny" --format q4_0 --tensor output=q8_0 --dry-run
err 'no such matrix'
t 2 quantize "$tiny" --format q4_0 --embd q8_0 --head q4_0 --dry-run
err 'cannot both hold'
finish
