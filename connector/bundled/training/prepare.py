"""Turns triples (JSON Lines) into the token arrays that `train_bundled.py` reads.

    python prepare.py --tokenizer tokenizer.json --out triples.npz CORPUS.jsonl [...]

The prompt is <|question|> question <|answer|> answer <|correction|>; the target is <|unchanged|><|end|> for a clean
answer, the correction and <|end|> for any other. Every text is encoded on its own with special tokens switched off, so
that a text which spells one of them stays text. Tokens between the first and the last edit weigh more in the loss.
"""

import argparse
import json
import os
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

# As `make_tokenizer.py` numbers them; text comes after.
END, QUESTION, ANSWER, CORRECTION, UNCHANGED, PAD, FIRST_TEXT = range(7)
EDIT_WEIGHT, DECISION_WEIGHT = 2, 4
KINDS = ["personal_data", "insult", "unsafe", "overclaim", "contradiction", "missing_warning", "rambling"]
TAGS = {kind: i for i, kind in enumerate(KINDS, 1)}
RESUME = len(TAGS) + 1
NO_TAG = 255


def load(path):
    tok = Tokenizer.from_file(path)
    # Text that spells a special token is text: the template alone sets special tokens.
    tok.encode_special_tokens = True
    return tok


def prompt_ids(tok, question, answer):
    q = tok.encode(question, add_special_tokens=False).ids
    a = tok.encode(answer, add_special_tokens=False).ids
    return [QUESTION, *q, ANSWER, *a, CORRECTION]


def compare(answer, target, kind):
    """(tags of the answer's tokens, weights of the target's): what is taken out is tagged with its kind, what follows
    it with `RESUME`; tokens written instead, and the one after each edit, weigh more in the loss."""
    n = min(len(answer), len(target))
    a = 0
    while a < n and answer[a] == target[a]:
        a += 1
    b = 0
    while b < n - a and answer[len(answer) - 1 - b] == target[len(target) - 1 - b]:
        b += 1
    tags = np.zeros(len(answer), dtype=np.uint8)
    weights = np.ones(len(target), dtype=np.uint8)
    inner = SequenceMatcher(None, answer[a : len(answer) - b], target[a : len(target) - b], autojunk=False)
    for op, i, j, k, m in inner.get_opcodes():
        if op != "equal":
            tags[a + i : a + j] = TAGS[kind]
            if j > i and a + j < len(tags):
                tags[a + j] = RESUME
            weights[a + k : a + m + 1] = EDIT_WEIGHT
            weights[a + k] = weights[min(a + m, len(weights) - 1)] = DECISION_WEIGHT
    return tags, weights


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--longest", type=int, default=1000, help="rows of more tokens are left out")
    ap.add_argument("corpus", nargs="+")
    args = ap.parse_args()
    tok = load(args.tokenizer)
    rows = [json.loads(line) for path in args.corpus for line in open(path, encoding="utf-8")]
    flat, weight, tag, prompts, targets, kinds = [], [], [], [], [], []
    for at in range(0, len(rows), 4096):
        part = rows[at : at + 4096]
        texts = [t for r in part for t in (r["question"], r["answer"], r["correction"])]
        ids = [e.ids for e in tok.encode_batch(texts, add_special_tokens=False)]
        for i, r in enumerate(part):
            q, a, c = ids[3 * i : 3 * i + 3]
            prompt = [QUESTION, *q, ANSWER, *a, CORRECTION]
            clean = r["answer"] == r["correction"]
            target = [UNCHANGED, END] if clean else [*c, END]
            if len(prompt) + len(target) > args.longest:
                continue
            flat.append(np.array(prompt + target, dtype=np.uint16))
            tags, w = np.zeros(len(a) + 1, dtype=np.uint8), np.ones(len(target), dtype=np.uint8)
            if not clean:
                tags, w = compare([*a, END], target, r["kind"])
            weight.append(np.concatenate([np.zeros(len(prompt), dtype=np.uint8), w]))
            row = np.full(len(prompt) + len(target), NO_TAG, dtype=np.uint8)
            row[len(q) + 2 : len(prompt)] = tags
            tag.append(row)
            prompts.append(len(prompt))
            targets.append(len(target))
            kinds.append(r["kind"])
    # Hidden until it is whole: training looks for files by pattern.
    out = Path(args.out)
    part = out.with_name(f".{os.getpid()}-{out.name}")
    np.savez(
        part, flat=np.concatenate(flat), weight=np.concatenate(weight), tag=np.concatenate(tag),
        prompt=np.array(prompts, dtype=np.int32),
        target=np.array(targets, dtype=np.int32), kind=np.array(kinds),
    )
    part.replace(out)
    total = np.array(prompts) + np.array(targets)
    print(f"{len(prompts)} rows, {total.sum() / 1e6:.1f} M tokens, median {np.median(total):.0f}, longest {total.max()}")


if __name__ == "__main__":
    main()
