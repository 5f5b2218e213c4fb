"""The weighted mean of two checkpoints, of which the second was trained on from the first.

    python average.py --first OLD/last.pt --second NEW/last.pt --share 0.3 --out mean.pt

What is learnt late, in small steps, costs some of what was known; the mean keeps most of both.
"""

import argparse

import torch

from model import load_checkpoint, save_checkpoint


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--first", required=True)
    ap.add_argument("--second", required=True)
    ap.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    first, second = load_checkpoint(args.first), load_checkpoint(args.second)
    if first["config"] != second["config"]:
        raise SystemExit(f"{args.first} and {args.second} are of different shapes: average checkpoints of one run")
    mean = {name: torch.lerp(w.float(), second["model"][name].float(), args.share) for name, w in first["model"].items()}
    save_checkpoint(args.out, model=mean, optimiser=None, step=0, tokens=0, spent=0.0, config=first["config"])


if __name__ == "__main__":
    main()
