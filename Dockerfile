# The connector as a container: built with the pinned toolchain, run as nobody in particular.
#
#   docker build -t aligner-connector .
#   docker run --rm aligner-connector demo
#
# OpenSSL is Debian's in both stages, so that its fixes arrive with the base image.

FROM rust:1.95.0-bookworm AS build
# rust-toolchain.toml also asks for rustfmt and clippy, which no image needs.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package aligner-service --package aligner-tidy \
    && install -D --strip target/release/aligner-connector /out/aligner-connector \
    && target/release/aligner-notices /out/doc

FROM debian:bookworm-slim
# Versions are those of the base image's release: pinning them here would hold back their fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 /var/cache/huggingface
COPY --from=build /out/aligner-connector /usr/local/bin/aligner-connector
# Licences of all that is linked into it; OpenSSL's and those of the base image are where Debian has them.
COPY --from=build /out/doc /usr/share/doc/aligner-connector
# Models of the Hugging Face hub; a volume keeps them: docker run -v models:/var/cache/huggingface
ENV HF_HOME=/var/cache/huggingface
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8083
ENTRYPOINT ["/usr/local/bin/aligner-connector"]
CMD ["--help"]
LABEL org.opencontainers.image.title="aligner-connector" \
      org.opencontainers.image.description="Corrects LLM answers in Kafka with an Aligner model, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0"
