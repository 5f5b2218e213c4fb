#!/usr/bin/env bash
# Builds the peers of `make bench-peers` into target/peers: Kafka Streams with Maven, franz-go with
# Go. The rdkafka loop is a program of the workspace.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${ALIGNER_TEST_DOWNLOADS:-$PWD/target}/peers
go=$(sed -n 's/^go //p' tests/peers/franz-go/go.mod)

for tool in java javac mvn go; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is missing; the peers are built with a JDK (17 or newer), Maven and Go ($go or newer)" >&2
    echo "hint: apt-get install -y default-jdk-headless maven, and Go from its own site" >&2
    exit 1
  }
done

mkdir -p "$out/streams"
mvn -q -B -f tests/peers/streams/pom.xml -DbuildDirectory="$out/maven" \
  package org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
  -DoutputDirectory="$out/streams" -DincludeScope=runtime
cp "$out"/maven/streams-peer-1.jar "$out/streams/"
(cd tests/peers/franz-go && GOFLAGS=-mod=readonly go build -o "$out/franz-go-peer" .)
