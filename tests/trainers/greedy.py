"""Greedy decoding by Hugging Face transformers: the folder in argv[1], prompts as JSON Lines on stdin, ids out.

The folder is loaded as it is, by the classes its own config.json and tokenizer_config.json name."""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, most = sys.argv[1], int(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
unexpected = {name: keys for name, keys in info.items() if keys}
if unexpected:
    sys.exit(f"the checkpoint does not fit its config: {unexpected}")
model.eval()
for line in sys.stdin:
    row = json.loads(line)
    ids = tokenizer(row["prompt"], add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=most)
    made = out[0, ids.shape[1] :].tolist()
    print(json.dumps({"event_id": row["event_id"], "token_ids": made}), flush=True)
