#!/bin/sh
# Makes the bundled Aligner from nothing but this repository: corpus, tokenizer, weights, figures.
#
#   connector/bundled/training/run.sh WORK [MODEL]
#
# WORK holds the intermediate files and checkpoints; a second call goes on from the last checkpoint. MODEL is where the
# finished model is put (WORK/model without it). PYTHON names an interpreter with requirements.txt installed; a CUDA
# device is used if torch sees one (and then a C compiler, for Triton). TOKENS is the length of training (default 40e6: hours on two cores, minutes on a GPU).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$1
model=${2:-$work/model}
python=${PYTHON:-python3}
mkdir -p "$work"

# An allocator that keeps its pages, and threads that sleep at barriers: a third of the time on a busy machine.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 OMP_WAIT_POLICY=passive

(cd "$here/../../.." && cargo build --release -p aligner-corpus)
corpus=${CARGO_TARGET_DIR:-$here/../../../target}/release/aligner-corpus

if [ ! -f "$work/tokenizer/tokenizer.json" ]; then
  "$corpus" --split train --count 8000 --seed 99 --drills 0.1 --min-words 5 --out "$work/tokenizer-corpus.jsonl"
  "$python" "$here/make_tokenizer.py" --out "$work/tokenizer" --words "$here/../../corpus/data/words.txt" \
    "$work/tokenizer-corpus.jsonl"
fi
make() { # make NAME SPLIT OPTION...: a file that is there is whole
  out=$work/$1.jsonl split=$2
  shift 2
  [ -f "$out" ] && return
  "$corpus" --split "$split" --out "$out.part" "$@"
  mv "$out.part" "$out"
}
make valid validation --seed 1 --count 1000
make test test --count 2000
[ -f "$work/valid.npz" ] || "$python" "$here/prepare.py" --tokenizer "$work/tokenizer/tokenizer.json" \
  --out "$work/valid.npz" "$work/valid.jsonl"
"$corpus" --phrases > "$work/phrases.txt"
[ -f "$work/mix.json" ] || cat > "$work/mix.json" <<'END'
{"sets": [{"file": "plain-*.npz", "share": 0.3}, {"file": "short-*.npz", "share": 0.28},
          {"file": "middle-*.npz", "share": 0.25}, {"file": "long-*.npz", "share": 0.17}],
 "copy_share": 0.03}
END

# Parts of the training corpus, so many that a row is met about twice. On a GPU training goes on while they are made, and
# takes up new ones as they come; the last word on whether all could be made is at the end.
tokens=${TOKENS:-40e6}
count=$("$python" -c "import math; print(math.ceil($tokens / 5.4e6))")
parts() { # parts FROM TO
  seq "$1" "$2" | TOKENIZERS_PARALLELISM=false xargs -P "$(nproc)" -I{} "$here/make_part.sh" "$corpus" "$python" "$work" {}
}
parts 1 1

# On a CPU one process for each core, on a GPU one in all. Two runs: a short one at a high rate, and the main one from its
# weights with a schedule of its own.
maker=
if [ "$("$python" -c 'import torch; print(torch.cuda.is_available())')" = True ]; then
  workers=1 batch="--batch-tokens 32768 --compile"
  parts 2 "$count" &
  maker=$!
  trap 'kill "$maker" 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM
else
  workers=$(nproc) batch="--batch-tokens 3072"
  parts 2 "$count"
fi
train() { # train RUN OPTION...
  out=$work/$1
  shift
  # shellcheck disable=SC2086 # several words
  "$python" -m torch.distributed.run --standalone --nproc-per-node "$workers" "$here/train_bundled.py" \
    --out "$out" --tokenizer "$work/tokenizer/tokenizer.json" --mix "$work/mix.json" --valid "valid=$work/valid.npz" \
    $batch "$@"
}
[ -f "$work/main/last.pt" ] || train start --lr 4e-3 --tokens 3e6 --flat 1 --short 0.7
train main --init "$work/start/last.pt" --lr 3e-3 --tokens "$tokens" --flat 0.2 --short 0 --warmup 20
[ -z "$maker" ] || wait "$maker"
"$python" "$here/export.py" --checkpoint "$work/main/last.pt" --tokenizer "$work/tokenizer" \
  --phrases "$work/phrases.txt" --unchanged-scale 1.2 --out "$model"
"$python" "$here/evaluate.py" --model "$model" corpus "$work/test.jsonl"
