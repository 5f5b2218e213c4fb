"""Turns triples (JSON Lines) into the token arrays that `train_bundled.py` reads.

    python prepare.py --tokenizer tokenizer.json --out triples.npz [--join N] CORPUS.jsonl [...]

The prompt is <|question|> question <|answer|> answer <|correction|>; the target is <|unchanged|><|end|> for a clean
answer, the correction and <|end|> for any other. Every text is encoded on its own with special tokens switched off, so
that a text which spells one of them stays text. Tokens between the first and the last edit weigh more in the loss.

With `--join`, the answers of N triples follow one another in one row, which has no target: it is read for its tags alone.
That is many times as many faults for the same work, of kinds that do not tell one another.
"""

import argparse
import json
import os
import random
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


JOINTS, JOINT_WEIGHTS = [" ", "\n", "\n\n"], [8, 1, 1]
ALONE = ("contradiction", "missing_warning")  # faults only with their question, or in the answer as a whole


def joined(tok, rows, rng):
    """(tokens, their tags) of a row of these triples' answers, asked the question of one of them."""
    encode = lambda text: tok.encode(text, add_special_tokens=False).ids
    question = encode(rng.choice(rows)["question"])
    ids, tags = [QUESTION, *question, ANSWER], []
    for i, r in enumerate(rows):
        joint = rng.choices(JOINTS, JOINT_WEIGHTS)[0] if i else ""
        answer, correction = encode(joint + r["answer"]), encode(joint + r["correction"])
        own = compare([*answer, END], [*correction, END], r["kind"])[0]
        if tags and tags.pop() == RESUME and own[0] == 0:
            own[0] = RESUME
        ids += answer
        tags += own.tolist()
    return [*ids, CORRECTION], [NO_TAG] * (len(question) + 2) + tags


def save(out, **arrays):
    """Hidden until it is whole: training looks for files by pattern."""
    out = Path(out)
    part = out.with_name(f".{os.getpid()}-{out.name}")
    np.savez(part, **arrays)
    part.replace(out)


def prepare_joined(args, tok, rows):
    rng = random.Random(args.out)
    rows = [r for r in rows if r["kind"] not in ALONE]
    made = [joined(tok, rows[at : at + args.join], rng) for at in range(0, len(rows) - args.join + 1, args.join)]
    made = [(ids, tags) for ids, tags in made if len(ids) <= args.longest]
    size = np.array([len(ids) for ids, _ in made], dtype=np.int32)
    flat = np.concatenate([np.array(ids, dtype=np.uint16) for ids, _ in made])
    tag = np.concatenate([np.array(tags, dtype=np.uint8) for _, tags in made])
    save(
        args.out, flat=flat, weight=np.zeros(len(flat), dtype=np.uint8), tag=tag, prompt=size,
        target=np.zeros(len(made), dtype=np.int32), kind=np.array(["joined"] * len(made)),
    )
    print(f"{len(made)} rows, {len(flat) / 1e6:.1f} M tokens, {np.mean(tag[tag != NO_TAG] > 0):.2f} of them tagged")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--longest", type=int, default=1000, help="rows of more tokens are left out")
    ap.add_argument("--join", type=int, default=0, help="join the answers of so many triples, for their tags alone")
    ap.add_argument("corpus", nargs="+")
    args = ap.parse_args()
    tok = load(args.tokenizer)
    rows = [json.loads(line) for path in args.corpus for line in open(path, encoding="utf-8")]
    if args.join:
        return prepare_joined(args, tok, rows)
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
    save(
        args.out, flat=np.concatenate(flat), weight=np.concatenate(weight), tag=np.concatenate(tag),
        prompt=np.array(prompts, dtype=np.int32),
        target=np.array(targets, dtype=np.int32), kind=np.array(kinds),
    )
    total = np.array(prompts) + np.array(targets)
    print(f"{len(prompts)} rows, {total.sum() / 1e6:.1f} M tokens, median {np.median(total):.0f}, longest {total.max()}")


if __name__ == "__main__":
    main()
