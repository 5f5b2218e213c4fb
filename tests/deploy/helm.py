#!/usr/bin/env python3
"""The two helm commands that the deploy tests use, on Helm's own SDK, for machines without helm.

    helm.py lint --strict --values FILE CHART
    helm.py template NAME CHART --namespace NAMESPACE --values FILE [--notes]

With --notes the notes are printed instead of the objects, which helm does only where it can reach a
cluster.

Rendering, linting and the values schema are Helm's code; only the command line is imitated. Run it
with the Python of target/tools/venv.
"""

import argparse
import sys

import helm_python
import yaml

SEVERITIES = ("UNKNOWN", "INFO", "WARNING", "ERROR")


def lint(arguments, values):
    report = helm_python.lint(arguments.chart, values, strict=arguments.strict)
    for message in report["messages"]:
        print(f"[{SEVERITIES[message['severity']]}] {message['path']}: {message['error']}")
    for error in report["errors"]:
        print(f"[ERROR] {error}", file=sys.stderr)
    worst = max((message["severity"] for message in report["messages"]), default=0)
    return 1 if report["errors"] or worst >= (2 if arguments.strict else 3) else 0


def template(arguments, values):
    with helm_python.Chart.load(arguments.chart) as chart:
        chart.validate_schema(values)
        rendered = chart.render(values, name=arguments.name, namespace=arguments.namespace)
    for path, text in sorted(rendered.items()):
        is_notes = path.endswith("/NOTES.txt")
        if is_notes and arguments.notes:
            print(text.strip())
        elif text.strip() and not is_notes and not arguments.notes:
            print(f"---\n# Source: {path}\n{text.strip()}")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="helm.py")
    commands = parser.add_subparsers(required=True)
    linting = commands.add_parser("lint")
    linting.add_argument("--strict", action="store_true")
    linting.set_defaults(run=lint)
    rendering = commands.add_parser("template")
    rendering.add_argument("name")
    rendering.add_argument("--namespace", default="default")
    rendering.add_argument("--notes", action="store_true")
    rendering.set_defaults(run=template)
    for command in (linting, rendering):
        command.add_argument("chart")
        command.add_argument("--values", required=True)
    arguments = parser.parse_args()
    with open(arguments.values, encoding="utf-8") as file:
        values = yaml.safe_load(file) or {}
    try:
        return arguments.run(arguments, values)
    except helm_python.HelmError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
