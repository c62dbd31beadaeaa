# syntax=docker/dockerfile:1
# The tag is exact. If builds must be reproducible, append the digest (node:...@sha256:...) of the day of your build.
FROM node:24.21.0-trixie-slim AS base

FROM base AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.types.json ./
COPY scripts/build.ts scripts/
COPY sinks sinks/
COPY src src/
COPY test/conformance.ts test/
COPY test/conformance test/conformance/
COPY test/faults/proxy.ts test/faults/
RUN npm run build \
  && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && find node_modules -type f \( -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.map' \) -delete \
  && find node_modules -depth -type d \( -name dist-es -o -name dist-types -o -path '*/api/build/es*' -o -path '*/bintrees/test' \) \
    -exec rm -r {} +

FROM base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="metrics-fanout" \
      org.opencontainers.image.description="Aggregates metrics from a NATS bus in windows and writes every window to several stores at once, exactly." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/node:24.21.0-trixie-slim"
ENV NODE_ENV=production
# Otherwise the young heap grows to 200 MB, and the old one to four times what is in use, if the machine has the memory:
# docs/sizing.md. And each thread would take 3 MB more, so that Node.js starts 0.1 s sooner.
ENV NODE_OPTIONS="--max-semi-space-size=2 --max-old-space-size=512 --no-node-snapshot"
# Blocks of this size, such as what a socket is read into, go back to the system when they are free, instead of leaving
# holes: docs/sizing.md.
ENV MALLOC_MMAP_THRESHOLD_=8192
# What one thread has freed, others may use.
ENV MALLOC_ARENA_MAX=2
RUN install -d -o 1000 -g 1000 /data \
  && ln -s /app/dist/src/bin.js /usr/local/bin/metrics-fanout
COPY package.json LICENSE /app/
COPY --from=build /build/node_modules /app/node_modules/
COPY --from=build /build/dist/NOTICES /app/dist/NOTICES
COPY --from=build /build/dist/src /app/dist/src/
USER 1000:1000
# The only file written without a mount: ./fanout.db, if no sink is enabled.
WORKDIR /data
EXPOSE 9464
STOPSIGNAL SIGTERM
# Without the options: this starts often.
HEALTHCHECK --interval=30s --timeout=6s --start-period=20s --retries=3 CMD ["env", "NODE_OPTIONS=", "metrics-fanout", "health"]
ENTRYPOINT ["metrics-fanout"]
CMD ["run"]
