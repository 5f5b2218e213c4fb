"""DPO by TRL: the folder in argv[1], on the preference pairs in argv[2], for argv[4] steps, with output in argv[3].

Prints JSON: how many rows there were, and the loss of each step."""

import contextlib
import json
import sys

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

folder, pairs, output, steps = sys.argv[1:]
with contextlib.redirect_stdout(sys.stderr):
    data = load_dataset("json", data_files=pairs, split="train")
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        args=DPOConfig(
            output_dir=output,
            max_steps=int(steps),
            per_device_train_batch_size=4,
            learning_rate=1e-4,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            seed=1,
        ),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
losses = [step["loss"] for step in trainer.state.log_history if "loss" in step]
print(json.dumps({"rows": len(data), "losses": losses}))
