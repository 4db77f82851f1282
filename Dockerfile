# The image holds the binary, the C library it is linked with, the certificate authorities and nothing else: no shell,
# no package manager. It runs as a numeric user on a read-only root file system; only /data is written to.

FROM rust:1.95-bookworm AS skeleton
WORKDIR /src
COPY . .
# Leaves the manifests and one empty program per target. What comes out changes only with the dependencies, so the layer
# below that builds them stays cached while the sources change. The fixed time keeps it equal from one run to the next.
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name '*.rs' -delete \
 && find . -path '*/src/*' -name '*.rs' ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*' -delete \
 && find . -path '*/tests/*/*' -name '*.rs' ! -name main.rs -delete \
 && find . -name '*.rs' -exec sh -c 'for file; do echo "fn main() { }" > "$file"; done' sh {} + \
 && find . -type d -empty -delete \
 && find . -exec touch --date=@0 {} +

FROM rust:1.95-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY --from=skeleton /src .
RUN cargo build --release --locked --bin spaces-bridge
COPY . .
# Cargo compares times: the sources must be younger than what was built from the empty programs.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --bin spaces-bridge

# What the final image holds, as one tree. The name service of this C library needs no further shared objects.
RUN mkdir -p /image/usr/bin /image/etc/ssl/certs /data \
 && cp target/release/spaces-bridge /image/usr/bin/ \
 && ldd target/release/spaces-bridge | grep -o '/[^ ]*' | xargs cp --dereference --parents --target-directory=/image \
 && cp --dereference /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
 && echo 'spaces-bridge:x:65532:65532::/data:/sbin/nologin' > /image/etc/passwd \
 && echo 'spaces-bridge:x:65532:' > /image/etc/group

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="spaces-bridge" \
      org.opencontainers.image.description="Use Avaya Spaces from anything that speaks HTTP: confirmed sends in, signed webhooks out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image /
COPY --from=build --chown=65532:65532 /data /data
# There is no /tmp: what SQLite spills goes to the volume.
ENV SPACES_BRIDGE_STORE__PATH=/data \
    TMPDIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/spaces-bridge", "healthcheck"]
ENTRYPOINT ["/usr/bin/spaces-bridge"]
CMD ["serve"]
