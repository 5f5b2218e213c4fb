"""Trains the bundled Aligner on tokenised triples (`prepare.py`), from weights that already copy (`copying.py`).

    python train_bundled.py --out RUN --mix mix.json [--tokens N | --minutes N] ...

A share of batches are random token streams in which a span between two marks is dropped or replaced, so that copying
stays open to any token.

A checkpoint holds weights, optimiser state, step and tokens seen. The mix file is read again whenever
it changes or a file that it names is added: data can be made while training goes on.
"""

import argparse
import copy
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from batches import NOT_ASKED, WINDOW, Mix, Rewording, Triples, collate, copy_batch, copy_task
from copying import TAG_SCALE, TAGS, initialise
from model import Config, Model, load_checkpoint, save_checkpoint
from muon import Muon
from prepare import UNCHANGED, load

TAP = 3  # blocks after which the tags are asked for


def fast_type(device):
    """What passes are computed in: bf16 where the device has instructions for it. Without them torch takes fifty times as
    long for it as for f32."""
    has_bf16 = device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


# ---------------------------------------------------------------- evaluation


@torch.no_grad()
def exactness(model, rows, device, budget=16384):
    """Teacher-forced arg-max: a row is exact precisely when greedy decoding would give it. Returns bools, the token
    error and the mean loss."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    exact, wrong, count, loss = np.zeros(len(rows), bool), 0, 0, 0.0
    i = 0
    while i < len(order):
        part = []
        while i < len(order):
            width = len(rows[order[i]][0]) + len(rows[order[i]][1])
            if part and width * (len(part) + 1) > budget:
                break
            part.append(order[i])
            i += 1
        batch = collate([rows[j] for j in part]).to(device)
        logits = model(batch.ids, batch.where).float()
        loss += F.cross_entropy(logits, batch.labels, reduction="sum").item()
        good = (logits.argmax(-1) == batch.labels).cpu().numpy()
        at = 0
        for j in part:
            n = len(rows[j][1])
            exact[j] = good[at : at + n].all()
            wrong += n - good[at : at + n].sum()
            count += n
            at += n
    return exact, wrong / max(count, 1), loss / max(count, 1)


def report(model, args, vocab, valid, device):
    parts = []
    rng = np.random.default_rng(99)
    for n in (20, 80, 160, 240):
        exact, error, _ = exactness(model, [copy_task(rng, n, vocab) for _ in range(24)], device)
        parts.append(f"copy{n} {exact.mean():.2f}/{error:.1e}")
    for name, triples in valid.items():
        rows = [triples.row(i) for i in range(min(len(triples.total), args.valid_rows))]
        kinds = triples.kind[: len(rows)]
        exact, error, loss = exactness(model, rows, device)
        by = [f"{k}:{exact[kinds == k].mean():.2f}" for k in sorted(set(kinds))]
        changed = np.array([target[0] != UNCHANGED for _, target in rows])
        parts.append(
            f"{name} exact(changed) {exact[changed].mean():.3f} clean {exact[~changed].mean():.3f} "
            f"err {error:.1e} loss {loss:.4f} [{' '.join(by)}]"
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
    ap.add_argument("--mix", required=True, help="JSON: sets of triples (a pattern of files) with their shares, copy_share")
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
    ap.add_argument("--compile", action="store_true", help="fuse the model's operations: faster on a GPU")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--save-seconds", type=float, default=180)
    ap.add_argument("--print-every", type=int, default=20)
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
    # The forward and backward pass run on a copy, in bf16 where that is fast; the master stays f32.
    fast = copy.deepcopy(model).to(fast_type(device))
    for block in fast.blocks:
        block.dropout = args.dropout
    opt = Muon(model, free, args.decay, fast_type(device))
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
    mix = Mix(args.mix, Rewording(texts, device), device)
    valid = {name: Triples(path) for name, path in (v.split("=", 1) for v in args.valid)}
    if args.compile:
        # Block by block: one is compiled, and serves for all.
        for block in fast.blocks:
            block.compile(dynamic=True)
    masks = [free[name] for name, _ in model.named_parameters() if name in free]

    def save():
        if not all(p.isfinite().all() for p in model.parameters()):
            raise SystemExit(f"weights are no numbers any more at step {step}; {last} stays as it was")
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
        if step % (2 * WINDOW) == 0 and mix.refresh():
            print(f"step {step}: {len(mix.flat) / 1e6:.1f} M tokens to draw from", flush=True)
        ramp = min(1.0, (step + 1) / args.warmup)
        fall = max(0.0, (done - args.flat) / (1 - args.flat)) if args.flat < 1 else 0.0
        lr = args.lr * ramp * (args.lr_end + (1 - args.lr_end) * 0.5 * (1 + math.cos(math.pi * fall)))

        turn = step * team.size + team.rank
        rng = np.random.default_rng([args.seed, turn])
        # Short answers first: more decisions for the same tokens.
        longest = int(60 + 400 * (min(1.0, done / args.short) if args.short else 1.0))
        copying = rng.random() < mix.copy_share
        if copying:
            batch = copy_batch(rng, int(rng.integers(6, 60)), args.batch_tokens, cfg.vocab).to(device)
        else:
            batch = mix.batch(args.seed, turn, args.batch_tokens, longest, args.first_weight)
        with torch.no_grad():
            torch._foreach_copy_(list(fast.parameters()), list(model.parameters()))
        hidden, halfway = fast.trunk(batch.ids, tap=TAP)
        logits = hidden.reshape(-1, cfg.hidden)[batch.where] @ fast.embed.weight.t()
        each = F.cross_entropy(logits.float(), batch.labels, reduction="none")
        loss = (each * batch.weights).sum() / batch.weights.sum()
        if batch.tags is not None:
            # What is wrong with each token of the answer, asked for halfway up: a denser signal than the correction.
            asked = halfway[..., TAGS].float().flatten(0, 1) * TAG_SCALE
            tag_loss = F.cross_entropy(asked, batch.tags.flatten(), ignore_index=NOT_ASKED)
            loss = loss + args.tag_weight * tag_loss
            tag_losses.append(tag_loss.detach())
        loss.backward()
        for a, b in zip(fast.parameters(), model.parameters()):
            b.grad = torch.zeros_like(b) if a.grad is None else a.grad.float()
            a.grad = None
        team.average([p.grad for p in model.parameters()])
        torch._foreach_mul_([p.grad for name, p in model.named_parameters() if name in free], masks)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step(lr, team)
        step += 1
        tokens += batch.ids.numel() * team.size
        (copy_losses if copying else losses).append(each.detach().mean())

        if step % args.print_every == 0:
            # The host waits for a GPU only here.
            mean = lambda values: torch.stack(values).mean().item() if values else 0.0
            value = mean(losses)
            if not math.isfinite(value):
                raise SystemExit(f"loss is {value} at step {step}")
            now = time.time()
            if first:
                print(
                    f"step {step} {tokens / 1e6:.2f}M done {done:.3f} lr {lr:.2e} longest {longest} "
                    f"loss {value:.4f} copy {mean(copy_losses):.4f} tag {mean(tag_losses):.4f} "
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
