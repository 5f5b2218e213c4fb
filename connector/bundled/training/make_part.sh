#!/bin/sh
# Makes one part of the training corpus, tokenised: make_part.sh CORPUS PYTHON WORK NUMBER
#
# Parts differ by their number alone. Short answers hold more decisions for the same tokens, and copying need not be
# learnt: most rows are short. Three in ten answers make no sense. The last set holds the insults, dangers and overclaims
# that anybody would think of first, since those are what models answer. About 3 M tokens, in twenty to forty seconds of a core.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
corpus=$1 python=$2 work=$3 number=$4
make() { # make NAME OPTION...
  out=$work/$1-$number
  shift
  [ -f "$out.npz" ] && return
  "$corpus" --split train --clean 0.42 --out "$out.$$.jsonl" "$@"
  "$python" "$here/prepare.py" --tokenizer "$work/tokenizer/tokenizer.json" --out "$out.npz" "$out.$$.jsonl"
  rm "$out.$$.jsonl"
}
make short --seed "${number}1" --count 8000 --drills 0.3 --min-words 4 --max-words 22
make middle --seed "${number}2" --count 5400 --drills 0.3 --min-words 5 --max-words 45
make long --seed "${number}3" --count 3200 --drills 0.3
make plain --seed "${number}4" --count 8000 --drills 0.1 --min-words 5 --max-words 45 --only insult,unsafe,overclaim --plain 0.9
