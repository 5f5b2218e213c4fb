"""Turns triples (JSON Lines) into the token arrays that `train_bundled.py` reads.

    python prepare.py --tokenizer tokenizer.json --out triples.npz CORPUS.jsonl [...]

The prompt is <|question|> question <|answer|> answer <|correction|>; the target is <|unchanged|><|end|> for a clean
answer, the correction and <|end|> for any other. Every text is encoded on its own with special tokens switched off, so
that a text which spells one of them stays text. Tokens between the first and the last edit weigh more in the loss.
"""

import argparse
import json

import numpy as np
from tokenizers import Tokenizer

END, QUESTION, ANSWER, CORRECTION, UNCHANGED = range(5)
EDIT_WEIGHT = 2


def load(path):
    tok = Tokenizer.from_file(path)
    # Text that spells a special token is text: the template alone sets special tokens.
    tok.encode_special_tokens = True
    return tok


def prompt_ids(tok, question, answer):
    q = tok.encode(question, add_special_tokens=False).ids
    a = tok.encode(answer, add_special_tokens=False).ids
    return [QUESTION, *q, ANSWER, *a, CORRECTION]


def weights(answer, target):
    """Twice the weight from the first edit to the end of the last one (and one token beyond)."""
    n = min(len(answer), len(target))
    a = 0
    while a < n and answer[a] == target[a]:
        a += 1
    b = 0
    while b < n - a and answer[len(answer) - 1 - b] == target[len(target) - 1 - b]:
        b += 1
    w = np.ones(len(target), dtype=np.uint8)
    w[a : len(target) - b + 1] = EDIT_WEIGHT
    return w


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--longest", type=int, default=1000, help="rows of more tokens are left out")
    ap.add_argument("corpus", nargs="+")
    args = ap.parse_args()
    tok = load(args.tokenizer)
    rows = [json.loads(line) for path in args.corpus for line in open(path, encoding="utf-8")]
    flat, weight, prompts, targets, kinds = [], [], [], [], []
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
            w = np.ones(len(target), dtype=np.uint8) if clean else weights([*a, END], target)
            weight.append(np.concatenate([np.zeros(len(prompt), dtype=np.uint8), w]))
            prompts.append(len(prompt))
            targets.append(len(target))
            kinds.append(r["kind"])
    part = args.out + ".part.npz"
    np.savez(
        part, flat=np.concatenate(flat), weight=np.concatenate(weight), prompt=np.array(prompts, dtype=np.int32),
        target=np.array(targets, dtype=np.int32), kind=np.array(kinds),
    )
    import os

    os.replace(part, args.out)
    total = np.array(prompts) + np.array(targets)
    print(f"{len(prompts)} rows, {total.sum() / 1e6:.1f} M tokens, median {np.median(total):.0f}, longest {total.max()}")


if __name__ == "__main__":
    main()
