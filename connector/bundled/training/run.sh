#!/bin/sh
# Makes the bundled Aligner from nothing but this repository: corpus, tokenizer, weights, figures.
#
#   connector/bundled/training/run.sh WORK [MODEL]
#
# WORK holds the intermediate files and checkpoints; a second call goes on from the last checkpoint. MODEL is where the
# finished model is put (WORK/model without it). PYTHON names an interpreter with requirements.txt installed; a CUDA
# device is used if torch sees one. TOKENS is the length of training (default 40e6: hours on two cores, minutes on a GPU).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$1
model=${2:-$work/model}
python=${PYTHON:-python3}
mkdir -p "$work"

# An allocator that keeps its pages, and threads that sleep at barriers: a third of the time on a busy machine.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 OMP_WAIT_POLICY=passive

(cd "$here/../../.." && cargo build --release -p aligner-corpus)
corpus=${CARGO_TARGET_DIR:-$here/../../../target}/release/aligner-corpus

if [ ! -f "$work/tokenizer/tokenizer.json" ]; then
  "$corpus" --split train --count 6000 --seed 99 --drills 0.15 --min-words 5 --out "$work/tokenizer-corpus.jsonl"
  "$python" "$here/make_tokenizer.py" --out "$work/tokenizer" --words "$here/../../corpus/data/words.txt" \
    "$work/tokenizer-corpus.jsonl"
fi
if [ ! -f "$work/train.npz" ]; then
  "$corpus" --split train --count 150000 --seed 41 --clean 0.38 --drills 0.2 --min-words 5 --out "$work/train1.jsonl"
  "$corpus" --split train --count 125000 --seed 42 --clean 0.38 --drills 0.15 --max-words 80 --out "$work/train2.jsonl"
  "$corpus" --split validation --count 400 --seed 1 --out "$work/valid.jsonl"
  "$corpus" --split test --count 2000 --seed 2026 --out "$work/test.jsonl"
  "$corpus" --phrases > "$work/phrases.txt"
  prepare="$python $here/prepare.py --tokenizer $work/tokenizer/tokenizer.json"
  $prepare --out "$work/valid.npz" "$work/valid.jsonl"
  $prepare --out "$work/train.npz" "$work/train1.jsonl" "$work/train2.jsonl"
fi
[ -f "$work/mix.json" ] || echo '{"sets": [{"file": "train.npz", "share": 1}], "copy_share": 0.1}' > "$work/mix.json"

"$python" -u "$here/train_bundled.py" --out "$work/run" --mix "$work/mix.json" --valid "valid=$work/valid.npz" \
  --tokens "${TOKENS:-40e6}" --copy-tokens 5e6 --batch-tokens 6144 --first-weight 12
"$python" "$here/export.py" --checkpoint "$work/run/last.pt" --tokenizer "$work/tokenizer" \
  --phrases "$work/phrases.txt" --out "$model"
"$python" "$here/evaluate.py" --model "$model" corpus "$work/test.jsonl"
