"""Hugging Face transformers on torch: batches of equal sequences, greedy, SDPA; f32 on the CPU, bf16 on a GPU.

    python torch_static.py FOLDER THREADS PROMPT_TOKENS NEW_TOKENS BATCH…

THREADS may be `cuda`. One JSON object to stdout: for each batch size tokens per second of prefill and of decode. The best
of two passes counts; the first one warms up.
"""

import json
import sys
import time

import torch
import transformers


def measure(model, batch, prompt, new):
    ids = torch.randint(3, model.config.vocab_size, (batch, prompt), device=model.device)
    wait = torch.cuda.synchronize if model.device.type == "cuda" else lambda: None
    started = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    wait()
    prefilled = time.perf_counter()
    for _ in range(new - 1):
        ids = out.logits[:, -1].argmax(-1, keepdim=True)
        out = model(ids, past_key_values=out.past_key_values, use_cache=True)
    wait()
    ended = time.perf_counter()
    return batch * prompt / (prefilled - started), batch * (new - 1) / (ended - prefilled)


def main():
    folder, threads, prompt, new = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])
    device, dtype = ("cuda", torch.bfloat16) if threads == "cuda" else ("cpu", torch.float32)
    if device == "cpu":
        torch.set_num_threads(int(threads))
    torch.set_grad_enabled(False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa"
    ).to(device).eval()
    batches = []
    for batch in map(int, sys.argv[5:]):
        rates = [measure(model, batch, prompt, new) for _ in range(2)]
        prefill, decode = (max(column) for column in zip(*rates))
        batches.append({"batch": batch, "prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode})
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({**versions, "batches": batches}))


if __name__ == "__main__":
    main()
