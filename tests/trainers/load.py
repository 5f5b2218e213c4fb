"""What Hugging Face datasets makes of the JSON Lines in argv[1], with its cache in argv[2].

Prints JSON: the columns, and how many rows there are to train on and to test with."""

import contextlib
import json
import sys

from datasets import load_dataset

path, cache = sys.argv[1:]
with contextlib.redirect_stdout(sys.stderr):
    data = load_dataset("json", data_files=path, split="train", cache_dir=cache)
    parts = data.train_test_split(0.05, seed=1)
print(json.dumps({"columns": sorted(data.column_names), "train": len(parts["train"]), "test": len(parts["test"])}))
