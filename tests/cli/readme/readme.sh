# ht-suite: long
# Every command of README.md runs as it stands: the ones in fenced blocks marked sh, in one folder, in order.
. "$(dirname "$0")/../lib.sh"
[ -f "$root/README.md" ] || skip "no README.md"
sed -n '/^ *```sh/,/^ *```$/{/```/d;p}' "$root/README.md" >commands
[ -s commands ] || skip "README.md has no block marked sh"
mkdir bin && ln -s "$HALFTONE" bin/halftone && export PATH=$tmp/bin:$PATH
# What the page takes as given: the model of this repository and texts.
ln -s "$root/models" models
cp "$story" test.txt
cp "$root/models/text/northanger-abbey.txt" train.txt
n=0
while IFS= read -r line; do
    case $line in '' | '#'* | 'make '* | 'pip '* | 'git '* | 'sudo '* | 'apt'* | 'cmake '*) continue ;; esac
    last=$line
    echo 'Say something.' | timeout 300 bash -c "$line" >.out 2>.err || fail "exit code $?"
    n=$((n + 1))
done <commands
echo "$n commands"
check [ "$n" -gt 0 ]
finish
