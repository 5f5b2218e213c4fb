"""Trains the byte-level BPE tokenizer of the bundled Aligner.

    python make_tokenizer.py --out FOLDER CORPUS.jsonl [...]

Digits stand alone, so that a number is copied digit by digit and never guessed as a whole; letters, punctuation and
line breaks never share a token, so that what surrounds an address does not change how it is cut. The special tokens
come first (ids 0 to 5); `prepare.py` relies on their order.
"""

import argparse
import itertools
import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|end|>", "<|question|>", "<|answer|>", "<|correction|>", "<|unchanged|>", "<|pad|>"]
PIECES = r"'(?:s|t|re|ve|m|ll|d)(?!\p{L})| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"


def texts(paths):
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                row = json.loads(line)
                yield row["question"]
                yield row["answer"]
                # Masks, refusals and hedges stand only in corrections.
                if row["correction"] != row["answer"]:
                    yield row["correction"]


def vocabulary(path):
    """The corpus' word lists with regular endings: general English, where templates would crowd it out."""
    repeats = {"common": 60, "function": 60, "noun": 25, "verb": 25, "adj": 25, "adv": 25}
    section = ""
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("["):
            section = line.strip("[]")
            continue
        out = []
        for w in line.split("|") if "|" in line else line.split():
            stem = w[:-1] if w.endswith("e") else w
            forms = {"noun": [w + "s"], "verb": [w + "s", stem + "ing", stem + "ed"]}.get(section, [])
            out += [w, w, *forms, w.capitalize()]
        yield from [" " + " ".join(out)] * repeats.get(section, 6)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", required=True)
    ap.add_argument("--vocab", type=int, default=4096)
    ap.add_argument("--words", help="word lists of the corpus")
    ap.add_argument("corpus", nargs="+")
    args = ap.parse_args()
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=args.vocab,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    words = vocabulary(args.words) if args.words else ()
    tok.train_from_iterator(itertools.chain(texts(args.corpus), words), trainer)
    assert tok.get_vocab_size() == args.vocab, tok.get_vocab_size()
    assert [tok.token_to_id(s) for s in SPECIAL] == list(range(len(SPECIAL)))
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    tok.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "bos_token": None,
        "eos_token": SPECIAL[0],
        "pad_token": SPECIAL[5],
        "unk_token": None,
        "additional_special_tokens": SPECIAL[1:5],
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
