"""Widens the weights of a trained model of 256 hidden values to 512, with the circuit that looks ahead beside them.

    python widen.py --tokenizer tokenizer.json --prompts valid.npz --init OLD.pt --out WIDE.pt

What was learnt goes on as it was: new columns begin at zero, and RMSNorm's weights make up for the longer residual.
Given up are the heads that the new circuit takes: the second pair of the second block, the first of the third, the last
of the fourth. Circuits that training had blunted (what is learnt makes the residual longer, and frozen scores smaller by
the square) are sharpened. The bundled weights went through this once; a run from scratch does not need it.
"""

import argparse

import numpy as np
import torch

import copying
from model import Config, Model, load_checkpoint, save_checkpoint
from prepare import load
from train_bundled import Triples

# (block, head): how much sharper. Of the second block's, the next token's code; of the fourth's, the coming tags and the
# neighbours; of the last's, copying.
SHARPER = {(1, 0): 20.0, **{(3, head): 4.0 for head in range(6)}, (4, 0): 2.5, (4, 2): 2.5}
GIVEN_UP = {1: 1, 2: 0, 3: 3}  # the pair of heads of a block that the new circuit takes


@torch.no_grad()
def lengths(model, triples, rows=40):
    """Median length of the residual stream before each block's attention, each FFN, and the last norm."""
    seen = {}
    norms = {n: m for n, m in model.named_modules() if n.endswith(("norm_attention", "norm_ffn", "norm"))}
    hooks = [
        m.register_forward_hook(lambda _, x, __, n=n: seen.setdefault(n, []).append(x[0][0].norm(dim=-1)))
        for n, m in norms.items()
    ]
    changed = [i for i in range(len(triples)) if triples.target[i] > 2][:rows]
    for i in changed:
        prompt, target, *_ = triples.row(i)
        model.trunk(torch.from_numpy(np.concatenate([prompt, target[:-1]]))[None])
    for h in hooks:
        h.remove()
    return {n: torch.cat(x).median().item() for n, x in seen.items()}


@torch.no_grad()
def widen(old, texts, triples, seed=1):
    narrow = old.cfg.hidden
    length = lengths(old, triples)
    gain = [old.blocks[i].norm_attention.weight.mean().item() for i in range(old.cfg.layers)]
    scales = [g * narrow**0.5 * copying.SCALE / length[f"blocks.{i}.norm_attention"] for i, g in enumerate(gain)]
    new = Model(Config(**{**vars(old.cfg), "hidden": copying.MORE.stop}))
    copying.initialise(new, texts, seed, scales)
    new.embed.weight[:, :narrow] = old.embed.weight
    for i, (a, b) in enumerate(zip(old.blocks, new.blocks)):
        d, heads = old.cfg.head_dim, old.cfg.heads
        taken = GIVEN_UP.get(i)
        for kind, (x, y) in enumerate(zip(a.qkv.weight.split(a.parts), b.qkv.weight.split(b.parts))):
            per = 2 if kind == 0 else 1
            for head in range(len(y) // d):
                if taken is None or head // per != taken:
                    rows = slice(head * d, (head + 1) * d)
                    y[rows, :narrow], y[rows, narrow:] = x[rows], 0
                    if (i, kind, head) == (0, 2, 0):  # carries the sign that a sentence ends
                        y[rows][copying.CODE] = 0
                        y[rows][copying.CODE, copying.ENDS] = 1.0
        x, y = (w.view(-1, heads, d) for w in (a.out.weight, b.out.weight))
        for head in range(heads):
            if taken is None or head // 2 != taken:
                ended, following = y[copying.ENDED, head].clone(), y[copying.NEXT, head].clone()
                y[:narrow, head], y[narrow:, head] = x[:, head], 0
                if i == 0 and head < 2:
                    y[:, head, copying.CODE] = 0
                    y[copying.ENDED, head] = ended
                if (i, head) == (1, 0):
                    y[copying.NEXT, head] = following  # as long as it was meant to be
        b.gate_up.weight[:, :narrow], b.gate_up.weight[:, narrow:] = a.gate_up.weight, 0
        b.down.weight[:narrow], b.down.weight[narrow:] = a.down.weight, 0
        b.sharpness.copy_(torch.tensor([SHARPER.get((i, head), 1.0) for head in range(heads)]))
    # RMSNorm divides by the root of the mean square: of more values, and of what now stands beside the old ones. From the
    # first norm to the last, since each is measured behind those before it.
    before, after = dict(old.named_parameters()), dict(new.named_parameters())
    for name in length:
        weight = after[name + ".weight"]
        weight[:narrow] = before[name + ".weight"]
        weight[narrow:] = 0 if name == "norm" else before[name + ".weight"].mean()
        weight *= lengths(new, triples)[name] / length[name] * (narrow / new.cfg.hidden) ** 0.5
    return new


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--prompts", required=True, help="tokenised triples to measure the residual's length on")
    ap.add_argument("--init", required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    tok = load(args.tokenizer)
    c = load_checkpoint(args.init)
    old = Model(Config(**c["config"]))
    old.load_state_dict(c["model"], strict=False)  # older weights have no sharpness
    texts = [tok.decode([i]) for i in range(old.cfg.vocab)]
    triples = Triples(args.prompts)
    new = widen(old, texts, triples)
    save_checkpoint(args.out, model=new.state_dict(), config=vars(new.cfg), tokens=c["tokens"], step=c["step"])


if __name__ == "__main__":
    main()
