# A method told: choices, steps, sources; as YAML it is a recipe that quantizes to the same bytes.
. "$(dirname "$0")/../lib.sh"
for m in $("$HALFTONE" list methods | sed -n 's/^\([a-z0-9+.-]*\) .*/\1/p' | grep -v '^name$'); do
    t 0 show "$m"; no_err; out "^${m/+/[+]}: "; out '^weights +transform '; out '  1 transform'; out 'encode'
    t 0 show "$m" --why; no_err; out 'source: '; out 'Where ours differs: '
    t 0 show "$m" --yaml; no_err
    cp .out "$m.yaml"
    t 0 show "./$m.yaml" --yaml; same .out "$m.yaml"
    t 0 show "$root/recipes/$m.yaml" --yaml; same .out "$m.yaml"
    t 0 show "$m" --json; json 'd["schema"] == "halftone.show/1" and len(d["steps"]) >= 6'
    json 'all(s["formula"] and s["source"] for s in d["steps"])'
done
t 0 quantize "$tiny" -o a.gguf --method rtn --format q4_0 --quiet
t 0 quantize "$tiny" -o b.gguf --recipe rtn.yaml --format q4_0 --quiet
same a.gguf b.gguf
t 2 quantize "$tiny" -o c.gguf --recipe rtn.yaml --method rtn; err 'not both'; gone c.gguf
printf 'name: mine\nweights: {rnage: own}\n' >bad.yaml
t 3 quantize "$tiny" -o c.gguf --recipe bad.yaml; err 'line 2.*did you mean range'; gone c.gguf
t 4 quantize "$tiny" -o c.gguf --recipe missing.yaml; gone c.gguf
printf 'name: mine\nactivations: {format: int8:token}\n' >act.yaml
t 3 quantize "$tiny" -o c.gguf --recipe act.yaml; err 'GGUF cannot store that.*halftone folder'; gone c.gguf
t 2 show gptk; err 'did you mean gptq'
t 2 show; no_out
finish
