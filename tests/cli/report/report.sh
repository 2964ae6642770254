# One page from the records: complete, no network, text escaped.
. "$(dirname "$0")/../lib.sh"
small_text a.txt 6000
t 0 convert "$tiny" -o m.gguf --dtype f16
for f in Q8_0 Q4_K_M; do
    t 0 quantize m.gguf -o $f.gguf --format $f --json; cp .out $f.quantize.json
    t 0 eval $f.gguf --reference m.gguf --text a.txt --json; cp .out $f.eval.json
    t 0 run $f.gguf -p 'She' -n 8 --json; cp .out $f.run.json
done
t 0 report *.quantize.json *.eval.json *.run.json -o r.html --title 'Tiny <b>& co</b>'
out 'Q8_0'; out 'Q4_K_M'; err 'wrote .*r.html'
check grep -q '<svg' r.html
check grep -q 'Tiny &lt;b&gt;&amp; co' r.html
check [ "$(grep -cE '(src|href)="?(https?:)?//' r.html)" -eq 0 ]
check grep -qi '</html>' r.html
t 2 report Q8_0.eval.json -o r.html; err 'exists'
t 0 report Q8_0.eval.json -o r.html --force --json; json 'd["schema"].startswith("halftone.report")'
echo '{"schema": "other/1"}' >other.json
t 3 report m.gguf -o x.html; err 'expected JSON text, found a binary file'; gone x.html
t 3 report other.json -o x.html; gone x.html
finish
