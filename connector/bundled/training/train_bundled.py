"""Trains the bundled Aligner on tokenised triples (`prepare.py`), from weights that already copy (`copying.py`).

    python train_bundled.py --out RUN --mix mix.json [--tokens N | --minutes N] ...

A share of batches are random token streams in which a span between two marks is dropped or replaced, so that copying
stays open to any token.

A checkpoint holds weights, optimiser state, step, tokens seen and curriculum length; batches are drawn from a
generator seeded by (seed, step), so a resumed run sees what an uninterrupted one would have seen. The mix file is read
again whenever it changes: improved data can be swapped in without a restart.
"""

import argparse
import copy
import json
import math
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from copying import TAG_SCALE, TAGS, initialise
from model import Config, Model, load_checkpoint, save_checkpoint
from prepare import NO_TAG, RESUME, load

END, QUESTION, ANSWER, CORRECTION, UNCHANGED, PAD = range(6)
FIRST_TEXT = 6
# Shares of the learning rate. Copying adds up embeddings as they are: they change more slowly than the rest.
EMBEDDING_RATE, NORM_RATE, SHARPNESS_RATE = 1.2, 0.1, 0.3
TAP = 3  # blocks after which the tags are asked for
LONGEST_ROW = 480  # attention costs more with the square
REWORDED_ROWS, REWORDED_WORDS = 0.5, 0.1


# ---------------------------------------------------------------- random streams


def stream(rng, n, vocab):
    """n token ids from a vocabulary of the stream's own: small ones force repeats, which real text has plenty of."""
    size = int(rng.choice([40, 150, 600, vocab - FIRST_TEXT]))
    own = rng.integers(FIRST_TEXT, vocab, size)
    if size > 40 and rng.random() < 0.5:
        return own[np.minimum((rng.pareto(1.1, n) * size * 0.08).astype(np.int64), size - 1)]
    return own[rng.integers(0, size, n)]


def copy_task(rng, longest, vocab):
    """(prompt, target, labels' weights). Half are plain copies, half drop or replace a span between two marks."""
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
        width = max(width, len(prompt) + len(target) - 1)
        if rows and width * (len(rows) + 1) > budget:
            return rows
        rows.append((prompt, target, None, None))


# ---------------------------------------------------------------- triples


class Rewording:
    """Puts other words for some of a row's, the same ones in question, answer and correction: what is wrong with a
    sentence must not hang on having met just these words, and copying must go on whatever they are. Words of an edit
    stay, and those of a fault unless it is a long one."""

    def __init__(self, texts):
        self.whole = np.array([re.fullmatch(r" [a-z]{4,}", t) is not None for t in texts])
        self.goes_on = np.array([t[:1].isalpha() for t in texts])
        self.words = np.flatnonzero(self.whole)

    def __call__(self, rng, prompt, target, weight, tag):
        if rng.random() > REWORDED_ROWS:
            return prompt, target, weight, tag
        ids = np.concatenate([prompt, target])
        stays = [target[weight > 1], ids[:-1][self.goes_on[ids[1:]]]]
        faulty = (tag > 0) & (tag < RESUME)
        if faulty.sum() < 8:
            stays.append(ids[faulty])
        candidates = np.setdiff1d(ids[self.whole[ids]], np.concatenate(stays))
        chosen = candidates[rng.random(len(candidates)) < REWORDED_WORDS]
        table = np.arange(len(self.whole))
        table[chosen] = rng.choice(self.words, len(chosen))
        ids = table[ids]
        return ids[: len(prompt)], ids[len(prompt) :], weight, tag


class Triples:
    """Tokenised triples of `prepare.py`: one flat array, with the length of prompt and of target for every row."""

    def __init__(self, path):
        z = np.load(path)
        self.flat, self.prompt, self.target = z["flat"], z["prompt"].astype(np.int64), z["target"].astype(np.int64)
        self.weight, self.tag = z["weight"], z["tag"]
        self.kind = z["kind"]
        self.total = self.prompt + self.target
        self.start = np.concatenate([[0], np.cumsum(self.total)])[:-1]

    def __len__(self):
        return len(self.prompt)

    def row(self, i):
        s, p, n = self.start[i], self.prompt[i], self.total[i]
        ids = self.flat[s : s + n].astype(np.int64)
        return ids[:p], ids[p:], self.weight[s + p : s + n].astype(np.float32), self.tag[s : s + n].astype(np.int64)


class Mix:
    """Weighted triple files. Rows of a batch have similar lengths: a pool is drawn, sorted and cut."""

    def __init__(self, path, rewording):
        self.path, self.rewording, self.seen = Path(path), rewording, None
        self.refresh()

    def refresh(self):
        stamp = self.path.stat().st_mtime_ns
        if stamp == self.seen:
            return False
        spec = json.loads(self.path.read_text())
        self.sets = [Triples(self.path.parent / s["file"]) for s in spec["sets"]]
        share = np.array([s["share"] for s in spec["sets"]], dtype=np.float64)
        self.share = share / share.sum()
        self.copy_share = spec.get("copy_share", 0.1)
        # The share of each kind's rows that is kept: what is learnt first can be met more often.
        self.keep = spec.get("keep", {})
        self.seen = stamp
        return True

    def batch(self, seed, step, budget, longest):
        """The batch of a step. Steps of one window of 16 share a pool, and take its slices in shuffled order.
        Corrections longer than the curriculum has got to wait."""
        window, place = divmod(step, 16)
        rng = np.random.default_rng([seed, window, 7])
        pool = []
        size = 0
        while size < budget * 16 * 0.94:
            which = rng.choice(len(self.sets), p=self.share)
            s = self.sets[which]
            i = int(rng.integers(len(s)))
            keep = self.keep.get(str(s.kind[i]), 1.0)
            if keep < 1.0 and rng.random() > keep:
                continue
            if s.target[i] > longest or s.total[i] > LONGEST_ROW:
                continue
            pool.append((int(s.total[i]), which, i))
            size += int(s.total[i])
        pool.sort()
        batches, rows = [], []
        for n, which, i in pool:
            if rows and n * (len(rows) + 1) > budget:
                batches.append(rows)
                rows = []
            rows.append((which, i))
        batches.append(rows)
        order = rng.permutation(len(batches))
        rng = np.random.default_rng([seed, step, 8])
        return [self.rewording(rng, *self.sets[w].row(i)) for w, i in batches[order[place % len(batches)]]]


def collate(rows, first_weight, device):
    """(ids, flat places of the labels, labels, their weights, flat places of the tags, tags)"""
    width = max(len(p) + len(t) - 1 for p, t, *_ in rows)
    ids = np.full((len(rows), width), PAD, dtype=np.int64)
    where, labels, weights, tagged, tags = [], [], [], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for r, (p, t, w, tag) in enumerate(rows):
        ids[r, : len(p)] = p
        ids[r, len(p) : len(p) + len(t) - 1] = t[:-1]
        where.append(np.arange(len(t)) + r * width + len(p) - 1)
        labels.append(t)
        w = np.ones(len(t), dtype=np.float32) if w is None else w.copy()
        if first_weight:
            w[0] = max(w[0], first_weight)
        weights.append(w)
        if tag is not None:
            at = np.flatnonzero(tag != NO_TAG)
            tagged.append(at + r * width)
            tags.append(tag[at])
    put = lambda x: torch.from_numpy(np.concatenate(x)).to(device)
    return torch.from_numpy(ids).to(device), put(where), put(labels), put(weights), put(tagged), put(tags)


# ---------------------------------------------------------------- optimiser


def orthogonalise(g):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix (the Muon update)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g / (g.norm() + 1e-7)).bfloat16()
    turned = x.shape[0] > x.shape[1]
    x = x.t() if turned else x
    for _ in range(5):
        m = x @ x.t()
        x = a * x + (b * m + c * m @ m) @ x
    return (x.t() if turned else x).float()


class Muon:
    """Momentum with orthogonalised updates for the hidden matrices, AdamW for embeddings and norms.

    The update is scaled to the size AdamW's would have, so that one learning rate serves both."""

    def __init__(self, model, free, decay):
        self.free, self.decay = free, decay
        self.parts = model.blocks[0].parts
        self.matrices = [(n, p) for n, p in model.named_parameters() if n.startswith("blocks") and p.dim() == 2]
        self.momentum = [torch.zeros_like(p) for _, p in self.matrices]
        groups = {EMBEDDING_RATE: [], NORM_RATE: [], SHARPNESS_RATE: []}
        for n, p in model.named_parameters():
            if n.startswith("embed"):
                groups[EMBEDDING_RATE].append(p)
            elif n.endswith("sharpness"):
                groups[SHARPNESS_RATE].append(p)
            elif p.dim() == 1:
                groups[NORM_RATE].append(p)
        groups = [{"params": group, "share": share} for share, group in groups.items()]
        self.adam = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, foreach=True)

    @torch.no_grad()
    def step(self, lr, team):
        pieces = []
        for (name, p), m in zip(self.matrices, self.momentum):
            m.mul_(0.95).add_(p.grad)
            u = p.grad + 0.95 * m
            mask = self.free.get(name, torch.ones_like(p))
            p.mul_(1 - lr * self.decay * mask)
            parts = self.parts if "qkv" in name else p.shape[0] // 2 if "gate_up" in name else p.shape[0]
            pieces += zip(p.split(parts), u.split(parts), mask.split(parts))
        # Orthogonalising takes as long as a quarter of the passes: each process does its share.
        own = [orthogonalise(u) if i % team.size == team.rank else torch.zeros_like(u) for i, (_, u, _) in enumerate(pieces)]
        team.add(own)
        for (p, _, mask), u in zip(pieces, own):
            p.sub_(mask * u, alpha=lr * 0.2 * max(u.shape) ** 0.5)
        for g in self.adam.param_groups:
            g["lr"] = lr * g["share"]
        self.adam.step()

    def state(self):
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load(self, state):
        for mine, saved in zip(self.momentum, state["momentum"]):
            mine.copy_(saved)
        self.adam.load_state_dict(state["adam"])


# ---------------------------------------------------------------- evaluation


@torch.no_grad()
def exactness(model, rows, device, budget=16384):
    """Teacher-forced arg-max: a row is exact precisely when greedy decoding would give it. Returns bools and the
    token error."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    exact, first, wrong, count = np.zeros(len(rows), bool), np.zeros(len(rows), bool), 0, 0
    i = 0
    while i < len(order):
        batch = []
        width = 0
        while i < len(order):
            r = rows[order[i]]
            width = max(width, len(r[0]) + len(r[1]))
            if batch and width * (len(batch) + 1) > budget:
                break
            batch.append(order[i])
            i += 1
        ids, where, labels, *_ = collate([rows[j] for j in batch], 0, device)
        good = (model(ids, where).argmax(-1) == labels).cpu().numpy()
        at = 0
        for j in batch:
            n = len(rows[j][1])
            exact[j], first[j] = good[at : at + n].all(), good[at]
            wrong += n - good[at : at + n].sum()
            count += n
            at += n
    return exact, first, wrong / max(count, 1)


def report(model, args, vocab, valid, device):
    parts = []
    rng = np.random.default_rng(99)
    for n in (20, 80, 160, 240):
        rows = [(*copy_task(rng, n, vocab), None, None) for _ in range(24)]
        exact, _, error = exactness(model, rows, device)
        parts.append(f"copy{n} {exact.mean():.2f}/{error:.1e}")
    for name, (triples, kinds) in valid.items():
        rows = [triples.row(i) for i in range(min(len(triples), args.valid_rows))]
        exact, first, error = exactness(model, rows, device)
        by = [f"{k}:{exact[kinds[: len(rows)] == k].mean():.2f}" for k in sorted(set(kinds[: len(rows)]))]
        changed = np.array([r[1][0] != UNCHANGED for r in rows])
        parts.append(
            f"{name} exact(changed) {exact[changed].mean():.3f} clean {exact[~changed].mean():.3f} "
            f"err {error:.1e} [{' '.join(by)}]"
        )
    return " | ".join(parts)


# ---------------------------------------------------------------- several processes


class Team:
    """Processes that train together (`python -m torch.distributed.run`): each takes a batch of its own, and gradients
    are averaged. Beside other work two processes of one thread are faster than one of two threads, which would wait for
    each other at every operation."""

    def __init__(self):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.size > 1:
            torch.distributed.init_process_group("gloo")

    def agree(self, *values):
        """The first process' values."""
        if self.size == 1:
            return values
        x = torch.tensor(values, dtype=torch.float64)
        torch.distributed.broadcast(x, 0)
        return x.tolist()

    def add(self, tensors, share=1.0):
        if self.size > 1:
            flat = torch.cat([t.reshape(-1) for t in tensors])
            torch.distributed.all_reduce(flat)
            flat *= share
            for t, part in zip(tensors, flat.split([t.numel() for t in tensors])):
                t.copy_(part.view_as(t))

    def average(self, tensors):
        self.add(tensors, 1 / self.size)


# ---------------------------------------------------------------- the run


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", required=True)
    ap.add_argument("--mix", required=True, help="JSON: sets of triples with their shares, copy_share, keep")
    ap.add_argument("--init", help="start from the weights of this checkpoint, with a new schedule")
    ap.add_argument("--valid", action="append", default=[], help="NAME=FILE.npz, may be repeated")
    ap.add_argument("--valid-rows", type=int, default=320)
    ap.add_argument("--layers", type=int, default=5)
    ap.add_argument("--vocab", type=int, default=4096)
    ap.add_argument("--batch-tokens", type=int, default=3072, help="of each process")
    ap.add_argument("--minutes", type=float, default=0, help="end after this time; the schedule then follows the clock")
    ap.add_argument("--tokens", type=float, default=40e6, help="tokens in all; the schedule follows them")
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--lr-end", type=float, default=0.02, help="final rate as a share of --lr")
    ap.add_argument("--flat", type=float, default=0.55, help="share of the run at the full rate, before the decay")
    ap.add_argument("--short", type=float, default=0.1, help="share of the run in which the longest answer grows")
    ap.add_argument("--warmup", type=int, default=40)
    ap.add_argument("--first-weight", type=float, default=8.0, help="weight of the token that decides changed or not")
    ap.add_argument("--tag-weight", type=float, default=1.0, help="weight of the tags of the answer's tokens")
    ap.add_argument("--decay", type=float, default=0.1, help="weight decay of the hidden matrices, times the rate")
    ap.add_argument("--dropout", type=float, default=0.1, help="of the FFNs' inner values")
    ap.add_argument("--tokenizer", required=True, help="tokenizer.json")
    ap.add_argument("--full-precision-from", type=float, default=2.0, help="share of the run after which f32 is used")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--save-seconds", type=float, default=180)
    ap.add_argument("--eval-every", type=int, default=200)
    args = ap.parse_args()

    team = Team()
    first = team.rank == 0
    torch.manual_seed(args.seed)
    torch.set_num_threads(max(1, os.cpu_count() // team.size))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    cfg = Config(vocab=args.vocab, layers=args.layers)
    model = Model(cfg)
    tok = load(args.tokenizer)
    texts = [tok.decode([i]) for i in range(cfg.vocab)]
    free = {name: mask.to(device) for name, mask in initialise(model, texts, args.seed).items()}
    model.to(device)
    # The forward and backward pass run in bf16 on a copy (twice as fast on AVX512-BF16); the master stays f32.
    fast = copy.deepcopy(model).to(torch.bfloat16)
    for block in fast.blocks:
        block.dropout = args.dropout
    opt = Muon(model, free, args.decay)
    step, tokens, spent = 0, 0, 0.0
    last = out / "last.pt"
    if last.exists():
        c = load_checkpoint(last, device)
        model.load_state_dict(c["model"])
        opt.load(c["optimiser"])
        step, tokens, spent = c["step"], c["tokens"], c["spent"]
        print(f"resumed at step {step}, {tokens / 1e6:.2f} M tokens", flush=True)
    elif args.init:
        c = load_checkpoint(args.init, device)
        model.load_state_dict(c["model"])
        print(f"weights of {args.init}, a schedule of its own", flush=True)
    mix = Mix(args.mix, Rewording(texts))
    valid = {}
    for v in args.valid:
        name, path = v.split("=", 1)
        valid[name] = (Triples(path), np.load(path)["kind"])

    def save():
        save_checkpoint(
            last, model=model.state_dict(), optimiser=opt.state(), step=step, tokens=tokens, spent=spent,
            config=vars(cfg),
        )

    start, saved = time.time() - spent, time.time()
    mark, mark_tokens = time.time(), tokens
    total = args.tokens
    losses, copy_losses, tag_losses = [], [], []
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    while True:
        spent = time.time() - start
        done, ended = team.agree(spent / (60 * args.minutes) if args.minutes else tokens / total, len(stopped))
        if done >= 1 or ended:
            break
        if step % 50 == 0 and mix.refresh():
            print(f"step {step}: mix read again", flush=True)
        ramp = min(1.0, (step + 1) / args.warmup)
        fall = max(0.0, (done - args.flat) / (1 - args.flat)) if args.flat < 1 else 0.0
        lr = args.lr * ramp * (args.lr_end + (1 - args.lr_end) * 0.5 * (1 + math.cos(math.pi * fall)))

        turn = step * team.size + team.rank
        rng = np.random.default_rng([args.seed, turn])
        # Short answers first: more decisions for the same tokens.
        longest = int(60 + 400 * (min(1.0, done / args.short) if args.short else 1.0))
        copying = rng.random() < mix.copy_share
        if copying:
            rows = copy_batch(rng, int(rng.integers(6, 60)), args.batch_tokens, cfg.vocab)
        else:
            rows = mix.batch(args.seed, turn, args.batch_tokens, longest)
        ids, where, labels, weights, tagged, tags = collate(rows, 0 if copying else args.first_weight, device)
        net = fast if done < args.full_precision_from else model
        if net is fast:
            with torch.no_grad():
                for a, b in zip(fast.parameters(), model.parameters()):
                    a.copy_(b)
        hidden, halfway = net.trunk(ids, tap=TAP)
        flat = lambda x, at: x.reshape(-1, cfg.hidden)[at]
        each = F.cross_entropy((flat(hidden, where) @ net.embed.weight.t()).float(), labels, reduction="none")
        loss = (each * weights).sum() / weights.sum()
        if len(tags):
            # What is wrong with each token of the answer, asked for halfway up: a denser signal than the correction.
            tag_loss = F.cross_entropy(flat(halfway, tagged)[:, TAGS].float() * TAG_SCALE, tags)
            loss = loss + args.tag_weight * tag_loss
            tag_losses.append(tag_loss.item())
        loss.backward()
        if net is fast:
            for a, b in zip(fast.parameters(), model.parameters()):
                b.grad = torch.zeros_like(b) if a.grad is None else a.grad.float()
                a.grad = None
        team.average([p.grad for p in model.parameters()])
        for name, p in model.named_parameters():
            if name in free:
                p.grad *= free[name]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step(lr, team)
        for p in model.parameters():
            p.grad = None
        step += 1
        tokens += ids.numel() * team.size
        value = each.mean().item()
        if not math.isfinite(value):
            raise SystemExit(f"loss is {value} at step {step}")
        if copying:
            copy_losses.append(value)
        else:
            losses.append(value)

        if first and step % 20 == 0:
            now = time.time()
            print(
                f"step {step} {tokens / 1e6:.2f}M done {done:.3f} lr {lr:.2e} longest {longest} "
                f"loss {np.mean(losses) if losses else 0:.4f} copy {np.mean(copy_losses) if copy_losses else 0:.4f} "
                f"tag {np.mean(tag_losses) if tag_losses else 0:.4f} "
                f"{(tokens - mark_tokens) / (now - mark):.0f} tok/s",
                flush=True,
            )
            losses, copy_losses, tag_losses, mark, mark_tokens = [], [], [], now, tokens
        if first and step % args.eval_every == 0:
            print(f"  eval {step}: {report(model, args, cfg.vocab, valid, device)}", flush=True)
            mark = time.time()
        if first and time.time() - saved > args.save_seconds:
            save()
            saved = time.time()
    if not first:
        return
    save()
    print(f"  eval {step}: {report(model, args, cfg.vocab, valid, device)}", flush=True)


if __name__ == "__main__":
    main()
