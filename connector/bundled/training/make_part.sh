#!/bin/sh
# Makes one part of the training corpus, tokenised: make_part.sh CORPUS PYTHON WORK NUMBER
#
# Parts differ by their number alone. Short answers hold more decisions for the same tokens, and copying need not be
# learnt: most rows are short. Three in ten answers make no sense. Joined rows are five answers each, most of them faulty,
# for their tags alone. About 2.6 M tokens, in fifteen seconds of one core.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
corpus=$1 python=$2 work=$3 number=$4
make() { # make NAME JOIN OPTION...
  out=$work/$1-$number join=$2
  shift 2
  [ -f "$out.npz" ] && return
  "$corpus" --split train --drills 0.3 --out "$out.$$.jsonl" "$@"
  "$python" "$here/prepare.py" --tokenizer "$work/tokenizer/tokenizer.json" --join "$join" --out "$out.npz" "$out.$$.jsonl"
  rm "$out.$$.jsonl"
}
make short 0 --seed "${number}1" --clean 0.42 --count 8000 --min-words 4 --max-words 22
make middle 0 --seed "${number}2" --clean 0.42 --count 5400 --min-words 5 --max-words 45
make long 0 --seed "${number}3" --clean 0.42 --count 3200
make joined 5 --seed "${number}4" --clean 0.15 --count 24000 --min-words 4 --max-words 18
