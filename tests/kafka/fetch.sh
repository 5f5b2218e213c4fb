#!/usr/bin/env bash
# Brings what the broker tests run against, once: Apache Kafka (92 jars, 54 MB) into
# target/kafka-libs, and with `all` (the default) also Apicurio Registry (142 MB) into
# target/apicurio and Confluent's Python client into target/python-avro.
# Needs java, mvn and python3 with venv. Safe to run from several processes at once, and cheap when nothing is missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${ALIGNER_TEST_DOWNLOADS:-$root/target}
registry_version=2.6.13.Final
mkdir -p "$target"

for tool in java mvn flock; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is missing; the tests start real brokers with it" >&2
    echo "hint: apt-get install -y openjdk-17-jre-headless maven util-linux" >&2
    exit 1
  }
done

exec 9>"$target/.fetch.lock"
flock 9

# A stamp that names the content decides, so that a half-finished download is never taken for one.
want=$(cksum <"$root/tests/kafka/pom.xml")
if [ "$(cat "$target/kafka-libs/.complete" 2>/dev/null)" != "$want" ]; then
  echo "fetching the jars of Apache Kafka (54 MB)" >&2
  rm -rf "$target/kafka-libs"
  mvn -q -B -f "$root/tests/kafka/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$target/kafka-libs" -DincludeScope=runtime >&2
  echo "$want" >"$target/kafka-libs/.complete"
fi

if [ "${1:-all}" = all ] && [ "$(cat "$target/apicurio/.complete" 2>/dev/null)" != "$registry_version" ]; then
  echo "fetching Apicurio Registry $registry_version (142 MB)" >&2
  rm -rf "$target/apicurio"
  mkdir -p "$target/apicurio"
  mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact="io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" \
    -DoutputDirectory="$target/apicurio" >&2
  tar xzf "$target"/apicurio/*.tar.gz -C "$target/apicurio"
  rm -f "$target"/apicurio/*.tar.gz
  echo "$registry_version" >"$target/apicurio/.complete"
fi

requirements=$root/tests/registry/requirements.txt
if [ "${1:-all}" = all ] && ! cmp -s "$requirements" "$target/python-avro/.complete"; then
  echo "installing Confluent's Python client into target/python-avro" >&2
  rm -rf "$target/python-avro"
  python3 -m venv "$target/python-avro" >&2
  "$target/python-avro/bin/pip" install --quiet --disable-pip-version-check \
    --requirement "$requirements" >&2
  cp "$requirements" "$target/python-avro/.complete"
fi
