"""Batches for `train_bundled.py`: triples that were tokenised by `prepare.py`, and random streams to be copied.

Tokens lie on the device that trains, and a batch is put together there: on a GPU a step takes a few hundredths of a
second, in which one core of numpy would not have read the rows of the next. Only which rows a batch has is chosen on the
host. Batches are drawn from generators seeded by (seed, step): a resumed run sees the rows that an uninterrupted one would
have seen, as long as the files and the number of processes stay the same.
"""

import glob
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prepare import ANSWER, CORRECTION, END, FIRST_TEXT, NO_TAG, PAD, QUESTION, RESUME

NOT_ASKED = -100  # what torch's cross-entropy leaves out
LONGEST_ROW = 480  # attention costs more with the square
WINDOW = 16  # batches that share a pool of rows
WIDTH_STEP = 32  # rows are padded to multiples of it, so that few shapes occur
REWORDED_ROWS, MOST_REWORDED = 0.6, 0.3
# Of rows that end with the first token of the correction: copying is learnt long before what is wrong with a sentence is,
# which the tags of the answer teach at half the tokens.
CUT_ROWS = 0.4


@dataclass
class Batch:
    ids: torch.Tensor  # (rows, width)
    where: torch.Tensor  # flat places in `ids` whose next token is asked for
    labels: torch.Tensor
    weights: torch.Tensor  # of the labels
    tags: torch.Tensor | None  # (rows, width), NOT_ASKED where there is none

    def to(self, device):
        put = lambda x: None if x is None else x.to(device, non_blocking=True)
        return Batch(*map(put, (self.ids, self.where, self.labels, self.weights, self.tags)))


def padded(width):
    return -(-width // WIDTH_STEP) * WIDTH_STEP


def label_places(prompt, total, width):
    """Flat places whose next token belongs to the target, of rows with so many tokens of prompt and in all, and which of
    them come first in their row."""
    count = total - prompt
    first = np.cumsum(count) - count
    start = np.arange(len(prompt)) * width + prompt - 1 - first
    return np.repeat(start, count) + np.arange(count.sum()), first


def collate(rows):
    """The batch of (prompt, target) rows, without tags and weights."""
    prompt = np.array([len(p) for p, _ in rows])
    total = prompt + np.array([len(t) for _, t in rows])
    ids = np.full((len(rows), padded(total.max())), PAD, dtype=np.int64)
    for r, (p, t) in enumerate(rows):
        ids[r, : len(p)] = p
        ids[r, len(p) : len(p) + len(t)] = t
    where, _ = label_places(prompt, total, ids.shape[1])
    labels = ids.reshape(-1)[where + 1]
    return Batch(*map(torch.from_numpy, (ids, where, labels, np.ones(len(labels), dtype=np.float32))), None)


# ---------------------------------------------------------------- random streams


def stream(rng, n, vocab):
    """n token ids from a vocabulary of the stream's own: small ones force repeats, which real text has plenty of."""
    size = int(rng.choice([40, 150, 600, vocab - FIRST_TEXT]))
    own = rng.integers(FIRST_TEXT, vocab, size)
    if size > 40 and rng.random() < 0.5:
        return own[np.minimum((rng.pareto(1.1, n) * size * 0.08).astype(np.int64), size - 1)]
    return own[rng.integers(0, size, n)]


def copy_task(rng, longest, vocab):
    """(prompt, target). Half are plain copies, half drop or replace a span between two marks."""
    n = int(rng.integers(max(2, longest // 3), longest + 1))
    answer = stream(rng, n, vocab)
    target = answer
    if rng.random() < 0.5 and n >= 6:
        # Marks and mask are drawn from a fixed small set: the skip must be learnt, not what it means.
        opening, closing, mask = vocab - 3, vocab - 2, vocab - 1
        a = int(rng.integers(1, n - 3))
        b = int(rng.integers(a + 1, min(n - 1, a + 12) + 1))
        answer = np.concatenate([answer[:a], [opening], answer[a:b], [closing], answer[b:]])
        middle = [mask] if rng.random() < 0.5 else []
        if not middle:
            answer[a] = closing
        target = np.concatenate([target[:a], np.array(middle, dtype=np.int64), target[b:]])
    # Now and then the question is a whole conversation.
    most = 300 if longest > 100 and rng.random() < 0.1 else max(2, min(longest // 2, 40))
    q = stream(rng, int(rng.integers(1, most + 1)), vocab)
    prompt = np.concatenate([[QUESTION], q, [ANSWER], answer, [CORRECTION]])
    return prompt, np.concatenate([target, [END]])


def copy_batch(rng, longest, budget, vocab):
    rows, width = [], 0
    while True:
        prompt, target = copy_task(rng, longest, vocab)
        width = max(width, padded(len(prompt) + len(target)))
        if rows and width * (len(rows) + 1) > budget:
            return collate(rows)
        rows.append((prompt, target))


# ---------------------------------------------------------------- triples


class Rewording:
    """Puts other words for some of a row's, the same ones in question, answer and correction: what is wrong with a
    sentence must not hang on having met just these words, sound sentences are sound whatever they speak of, and copying
    must go on whatever they are. Words of an edit stay. Those of a fault stay too, unless it is a long one and few words
    are changed: it must remain one."""

    def __init__(self, texts, device):
        pick = lambda pattern: torch.tensor([re.fullmatch(pattern, t) is not None for t in texts], device=device)
        # A beginning of a word is put for another, and the rest of a word for another.
        self.kinds = [(flag, flag.nonzero()[:, 0]) for flag in (pick(" [a-z]{2,}"), pick("[a-z]{2,}"))]
        self.vocab = len(texts)

    def __call__(self, generator, ids, weight, tag):
        rows, vocab = len(ids), self.vocab
        random = lambda *shape: torch.rand(*shape, generator=generator, device=ids.device)
        rate = (random(rows, 1) < REWORDED_ROWS) * random(rows, 1) * MOST_REWORDED
        fault = (tag > 0) & (tag < RESUME)
        stays = (weight > 1) | (fault & ((fault.sum(1, keepdim=True) < 8) | (rate > 0.1)))
        # Rows times vocabulary; what does not stay is written to a place that nobody reads.
        at = ids + vocab * torch.arange(rows, device=ids.device)[:, None]
        kept = torch.zeros(rows * vocab + 1, dtype=torch.bool, device=ids.device)
        kept[torch.where(stays, at, rows * vocab)] = True
        chosen = ~kept[:-1].view(rows, vocab) & (random(rows, vocab) < rate)
        table = torch.arange(vocab, device=ids.device).expand(rows, vocab)
        place = random(rows, vocab)
        for flag, words in self.kinds:
            table = torch.where(chosen & flag, words[(place * len(words)).long()], table)
        return table.gather(1, ids)


class Triples:
    """Tokenised triples of `prepare.py`: one flat array, with the length of prompt and of target for every row."""

    def __init__(self, path):
        z = np.load(path)
        self.flat, self.weight, self.tag, self.kind = z["flat"], z["weight"], z["tag"], z["kind"]
        self.prompt, self.target = z["prompt"].astype(np.int64), z["target"].astype(np.int64)
        self.total = self.prompt + self.target
        self.start = np.cumsum(self.total) - self.total

    def row(self, i):
        ids = self.flat[self.start[i] :][: self.total[i]].astype(np.int64)
        return ids[: self.prompt[i]], ids[self.prompt[i] :]


class Mix:
    """Weighted sets of triples, each of the files that a pattern names. Rows of a batch have similar lengths: a pool is
    drawn, sorted and cut. Files that the patterns have come to name are added; all are read again when the mix changes."""

    def __init__(self, path, rewording, device):
        self.path, self.rewording, self.device = Path(path), rewording, device
        self.text, self.read, self.drawn = None, {}, None
        self.refresh()

    def refresh(self):
        text = self.path.read_text()
        spec = json.loads(text)
        files = [sorted(glob.glob(str(self.path.parent / s["file"]))) for s in spec["sets"]]
        if text == self.text and all(f in self.read for names in files for f in names):
            return False
        if not all(files):
            raise SystemExit(f"{self.path}: a set of {[s['file'] for s in spec['sets']]} has no file")
        if text != self.text:
            self.text, self.read = text, {}
            empty = lambda kind: torch.zeros(0, dtype=kind, device=self.device)
            self.flat, self.weight, self.tag = empty(torch.int16), empty(torch.uint8), empty(torch.uint8)
        share = np.array([s["share"] for s in spec["sets"]], dtype=np.float64)
        self.share, self.copy_share = share / share.sum(), spec.get("copy_share", 0.1)
        new = {f: Triples(f) for names in files for f in names if f not in self.read}
        at = len(self.flat)
        for name, t in new.items():
            self.read[name] = np.stack([t.start + at, t.prompt, t.total])
            at += len(t.flat)
        join = lambda old, pick: torch.cat([old, *(torch.from_numpy(pick(t)).to(old.device) for t in new.values())])
        self.flat = join(self.flat, lambda t: t.flat.astype(np.int16))
        self.weight, self.tag = join(self.weight, lambda t: t.weight), join(self.tag, lambda t: t.tag)
        self.rows = [np.concatenate([self.read[f] for f in names], axis=1) for names in files]
        self.drawn = None
        return True

    def pool(self, rng, size, longest):
        """(start, prompt, total) of rows of so many tokens together, padding included, the shortest first. Corrections
        longer than the curriculum has got to wait."""
        drawn, have = [], 0
        while have < size:
            which = rng.choice(len(self.rows), p=self.share, size=1024)
            rows = np.empty((3, 1024), dtype=np.int64)
            for i, known in enumerate(self.rows):
                mine = np.flatnonzero(which == i)
                rows[:, mine] = known[:, rng.integers(0, known.shape[1], len(mine))]
            _, prompt, total = rows
            rows = rows[:, (total - prompt <= longest) & (total <= LONGEST_ROW)]
            cut = rng.random(rows.shape[1]) < CUT_ROWS
            rows[2, cut] = rows[1, cut] + 1
            drawn.append(rows)
            have += padded(rows[2]).sum()
        rows = np.concatenate(drawn, axis=1)
        rows = rows[:, : np.searchsorted(np.cumsum(padded(rows[2])), size) + 1]
        return rows[:, np.argsort(rows[2], kind="stable")]

    def batch(self, seed, step, budget, longest, first_weight):
        """The batch of a step. Steps of one window share a pool, and take its slices in shuffled order. The token that
        decides between changed and unchanged weighs at least `first_weight`."""
        window, place = divmod(step, WINDOW)
        if self.drawn is None or self.drawn[0] != (seed, window, longest):
            self.drawn = (seed, window, longest), self.slices(np.random.default_rng([seed, window, 7]), budget, longest)
        rows, width = self.drawn[1][place]
        generator = torch.Generator(self.device).manual_seed(int(np.random.default_rng([seed, step, 8]).integers(2**62)))
        return self.assemble(generator, *rows, width, first_weight)

    def slices(self, rng, budget, longest):
        """At least as many batches as a window has, in shuffled order: (start, prompt, total) of their rows, and how
        wide they are."""
        rows = self.pool(rng, budget * WINDOW, longest)
        widths = padded(rows[2])
        cuts = [0]
        for i, width in enumerate(widths):
            if width * (i + 1 - cuts[-1]) > budget and i > cuts[-1]:
                cuts.append(i)
        cuts.append(len(widths))
        order = rng.permutation(len(cuts) - 1)
        return [(rows[:, cuts[i] : cuts[i + 1]], int(widths[cuts[i + 1] - 1])) for i in order]

    def put(self, x):
        """On the device, without waiting for what it is still at."""
        return x if self.device == "cpu" else x.pin_memory().to(self.device, non_blocking=True)

    def assemble(self, generator, start, prompt, total, width, first_weight):
        put = lambda x: self.put(torch.from_numpy(x))
        place = torch.arange(width, device=self.device)
        inside = place < put(total)[:, None]
        at = (put(start)[:, None] + place).clamp(max=len(self.flat) - 1)
        ids = torch.where(inside, self.flat[at].long(), PAD)
        weight = torch.where(inside, self.weight[at], 0)
        tag = torch.where(inside, self.tag[at], NO_TAG)
        ids = self.rewording(generator, ids, weight, tag)
        where, first = label_places(prompt, total, width)
        where = put(where)
        weights = weight.view(-1)[where + 1].float()
        weights[put(first)] = weights[put(first)].clamp(min=first_weight)
        return Batch(ids, where, ids.view(-1)[where + 1], weights, torch.where(tag == NO_TAG, NOT_ASKED, tag.long()))
