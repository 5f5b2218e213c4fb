"""Writes a checkpoint as a Hugging Face folder with the product's profile.

    python export.py --checkpoint RUN/last.pt --tokenizer FOLDER --phrases phrases.txt --out model

Weights are stored as f16. `phrases.txt` holds the correction phrases, one a line (`aligner-corpus --phrases`): their
words are the profile's `known_words`, which the guard lets the model add of itself.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from guard import words
from model import Config, Model, hf_config, load_checkpoint, to_hf

NAME = "aligner-connector-bundled"
GUARD = {
    "max_question_tokens": 700,
    "max_answer_tokens": 320,
    "max_tokens_per_word": 3.2,
    "max_novel_words": 0.0,
    "max_displaced_words": 0.04,
    "min_mean_logprob": -0.02,
    "min_token_logprob": -1.6,
    "min_length_ratio": 0.1,
    "max_length_ratio": 1.2,
}


def profile(phrases):
    known = sorted({w for line in phrases for w in words(line)})
    return {
        "name": NAME,
        "template": "<|question|>{question}<|answer|>{answer}<|correction|>",
        "unchanged_token": "<|unchanged|>",
        "guard": GUARD | {"known_words": known},
    }


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--phrases", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--unchanged-scale", type=float, default=1.0,
                    help="factor on the output embedding of <|unchanged|>: over 1 the model leaves more answers alone")
    args = ap.parse_args()
    c = load_checkpoint(args.checkpoint)
    cfg = Config(**c["config"])
    model = Model(cfg)
    model.load_state_dict(c["model"])
    # The token is never read, only written, so its embedding can carry a calibration of the first decision.
    with torch.no_grad():
        model.embed.weight[4] *= args.unchanged_scale
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.to(torch.float16) for k, v in to_hf(model).items()}, out / "model.safetensors", {"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(args.tokenizer) / name, out / name)
    put = lambda name, value: (out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    put("config.json", hf_config(cfg, end=0, pad=5))
    put("generation_config.json", {"do_sample": False, "eos_token_id": 0, "pad_token_id": 5, "max_new_tokens": 512})
    put("aligner.json", profile(Path(args.phrases).read_text().splitlines()))
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"step {c['step']}, {c['tokens'] / 1e6:.1f} M tokens -> {out} ({size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
