#!/usr/bin/env python3
"""The engine beside its peers: the same random weights, shapes, precision and queue, in one run.

    make bench-engine-peers                          # 15m and its whole queue
    make bench-engine-peers PEERS="--shape 150m --requests 16 --queue FILE"

Peers are llama.cpp (built from the source package of `llama-cpp-python`, driven by replay.cpp), the
models of candle-transformers as they come (examples/stock_candle.rs), and Hugging Face transformers
on torch where --torch-python names an interpreter that has both. Runs of ours and of llama.cpp take
turns; medians count. Everything that is downloaded or built lies in target/peers.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WORK = ROOT / "target" / "peers"
LLAMA = "0.3.36"
PACKAGES = ["gguf==0.19.0", "numpy", "safetensors"]


def call(command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def measured(command, environment=None):
    """The JSON object that a program prints."""
    done = call(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    return json.loads(done.stdout.splitlines()[-1])


def python():
    own = WORK / "venv" / "bin" / "python"
    if not own.exists():
        venv.create(WORK / "venv", with_pip=True)
        call([own, "-m", "pip", "install", "-q", *PACKAGES])
    return own


def llama_cpp():
    """The replay program, linked with llama.cpp."""
    program = WORK / "replay"
    if program.exists() and program.stat().st_mtime > (HERE / "replay.cpp").stat().st_mtime:
        return program
    sources = WORK / f"llama_cpp_python-{LLAMA}" / "vendor" / "llama.cpp"
    build = WORK / "llama.cpp"
    if not sources.exists():
        call([python(), "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", WORK,
              f"llama-cpp-python=={LLAMA}"])
        with tarfile.open(WORK / f"llama_cpp_python-{LLAMA}.tar.gz") as archive:
            archive.extractall(WORK)
    off = ["TESTS", "EXAMPLES", "TOOLS", "SERVER", "APP", "COMMON", "UI"]
    call(["cmake", "-S", sources, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
          "-DGGML_OPENMP=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF",
          f"-DCMAKE_CXX_FLAGS=-include {HERE / 'tile_config.h'}",
          *(f"-DLLAMA_BUILD_{part}=OFF" for part in off)], stdout=subprocess.DEVNULL)
    call(["cmake", "--build", build, "--target", "llama"], stdout=subprocess.DEVNULL)
    libraries = ["src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a"]
    call(["g++", "-O2", "-std=c++17", "-I", sources / "include", "-I", sources / "ggml" / "include",
          HERE / "replay.cpp", "-o", program, *(build / library for library in libraries),
          "-fopenmp", "-lpthread", "-ldl", "-lm"])
    return program


def weights(shape):
    folder = WORK / shape
    if not (folder / "hf" / "config.json").exists():
        call([python(), HERE / "weights.py", shape, folder])
    return folder


def drawn():
    """A queue as ragged as genuine ones: most prompts of 200 to 1,000 tokens, outputs capped at 256."""
    draw = random.Random(1)
    lengths = [(round(draw.lognormvariate(6.2, 0.5)), round(draw.lognormvariate(5.6, 0.6))) for _ in range(64)]
    return {"requests": [{"id": str(index), "prompt_len": min(max(prompt, 16), 1200), "out_len": min(output, 256)}
                         for index, (prompt, output) in enumerate(lengths)]}


def first(queue, count):
    """The queue's beginning, as a file of its own."""
    parsed = json.loads(Path(queue).read_text()) if queue else drawn()
    parsed["requests"] = parsed["requests"][:count]
    path = WORK / f"queue-{len(parsed['requests'])}.json"
    path.write_text(json.dumps(parsed))
    return path, parsed["requests"]


def agreement(ours, theirs):
    """Share of output rows with the same greedy token."""
    rows = [
        a == b
        for one, other in zip(ours.read_text().splitlines(), theirs.read_text().splitlines())
        for a, b in zip(json.loads(one)["argmax"], json.loads(other)["argmax"], strict=True)
    ]
    return sum(rows) / len(rows)


def compare(arguments):
    queue, requests = first(arguments.queue, arguments.requests)
    count, threads = len(requests), str(arguments.threads)
    files = weights(arguments.shape)
    ours = ROOT / "target" / "release" / "aligner-connector"
    stock = ROOT / "target" / "release" / "examples" / "stock_candle"
    replay = llama_cpp()
    results = []

    def add(name, dtype, runs, **more):
        rates = [run["corrections_per_s"] for run in runs]
        results.append({"engine": name, "dtype": dtype, "corrections_per_s": statistics.median(rates),
                        "runs": rates, **more})

    def bench(dtype, model, slots, queue=queue, emit=None):
        return measured([ours, "bench", "--json", "--model", model, "--dtype", dtype, "--threads", threads,
                         "--slots", slots, "--queue", queue, *(["--emit", emit] if emit else [])])

    for dtype in arguments.dtypes:
        model = files / f"{dtype}.gguf"
        emitted = [WORK / "ours.jsonl", WORK / "theirs.jsonl"]
        pairs = [
            (bench(dtype, model, arguments.slots, emit=emitted[0]),
             measured([replay, model, queue, arguments.slots, threads, count, emitted[1]]))
            for _ in range(arguments.repeats)
        ]
        add("aligner-connector", dtype, [pair[0] for pair in pairs], slots=arguments.slots,
            kernels=pairs[0][0]["kernels"], kv=pairs[0][0]["kv"], agreement=agreement(*emitted))
        add(f"llama.cpp of llama-cpp-python {LLAMA}", dtype, [pair[1] for pair in pairs], slots=arguments.slots)
        # candle-transformers answers one request at a time, and gets a part of the queue only.
        part = min(count, arguments.stock_requests)
        theirs = files / "hf" if dtype == "f32" else model
        add("candle-transformers 0.11.1", dtype,
            [measured([stock, theirs, queue, part], {"RAYON_NUM_THREADS": threads})], slots=1, requests=part)
        short, _ = first(arguments.queue, part)
        add("aligner-connector, one at a time", dtype, [bench(dtype, model, 1, queue=short)], slots=1, requests=part)
    report = {"shape": arguments.shape, "requests": count, "threads": arguments.threads, "results": results}
    if arguments.torch_python:
        static = [128, 64, 1, 8, 32]
        report["torch"] = measured([arguments.torch_python, HERE / "torch_static.py", files / "hf", threads, *static])
        report["ours_static"] = measured(
            [ours, "bench", "--json", "--model", files / "hf", "--dtype", "f32", "--threads", threads,
             "--prompt-tokens", static[0], "--new-tokens", static[1]])["batches"]
    return report


def show(report):
    print(f"{report['shape']}, {report['requests']} requests, {report['threads']} threads")
    best = {}
    for result in report["results"]:
        best.setdefault(result["dtype"], result["corrections_per_s"])
        ratio = best[result["dtype"]] / result["corrections_per_s"]
        more = {key: value for key, value in result.items() if key in ("slots", "kernels", "kv", "agreement")}
        print(f"  {result['engine']:42} {result['dtype']:5} {result['corrections_per_s']:8.3f}/s  1 : {ratio:.2f}  {more}")
    for engine in ("torch", "ours_static"):
        if engine in report:
            print(f"  {engine} f32: {json.dumps(report[engine])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="15m", choices=["15m", "150m", "500m"])
    parser.add_argument("--queue", help="as `bench --queue` takes it; drawn at random without")
    parser.add_argument("--requests", type=int, default=64, help="how many of the queue's requests")
    parser.add_argument("--stock-requests", type=int, default=4, help="how many of them for candle-transformers")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["q8_0"], choices=["q8_0", "f32"])
    parser.add_argument("--torch-python", help="an interpreter with torch and transformers")
    parser.add_argument("--prepare", action="store_true", help="build and download only")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if arguments.prepare:
        llama_cpp()
        weights(arguments.shape)
        return
    report = compare(arguments)
    path = WORK / f"results-{arguments.shape}.json"
    path.write_text(json.dumps(report, indent=1))
    show(report)
    print(f"written to {path}")


if __name__ == "__main__":
    sys.exit(main())
