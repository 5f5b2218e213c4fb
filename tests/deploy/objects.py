#!/usr/bin/env python3
"""Reads rendered manifests on stdin, checks them, and prints them as a JSON array.

    objects.py 1.28 1.37 < manifests.yaml

Every object of a built-in kind is checked against the API schemas of the Kubernetes versions named,
unknown fields included. Kinds of operators (EXTENSIONS) have no schema here: they are printed only.
"""

import json
import sys

import kubernetes_validate
import yaml

EXTENSIONS = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}


def main():
    objects = [found for found in yaml.safe_load_all(sys.stdin) if found is not None]
    wrong = 0
    for found in objects:
        if found["kind"] in EXTENSIONS:
            continue
        for version in sys.argv[1:]:
            try:
                kubernetes_validate.validate(found, version, strict=True)
            except (kubernetes_validate.ValidationError,
                    kubernetes_validate.SchemaNotFoundError) as error:
                wrong += 1
                name = f"{found['kind']} {found['metadata']['name']}"
                print(f"{name}, Kubernetes {version}: {error}", file=sys.stderr)
    json.dump(objects, sys.stdout)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
