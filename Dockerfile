# The images of the service and of its sidecar: docs/containers.md describes targets, build arguments and secrets.
# `make image` builds the Bento's image from this file as well (Dockerfile.bento.j2); the code then is in another folder.

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# The image of Python has no bytecode of its standard library, and nothing can write it later: the root is read-only.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(site-packages|dist-packages|test|idlelib|lib2to3)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 10001 bunriwiki \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bunriwiki \
    && install -d -o bunriwiki -g bunriwiki /store /store/run /data


# The packages that serving requires.
FROM base AS packages
ARG SOURCE=.
WORKDIR /build
COPY ${SOURCE}/scripts/install-packages ${SOURCE}/requirements/serve.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=certificates \
    --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    ./install-packages /opt/serve serve.txt


# The code and the fallback models, readable by everybody whatever the rights in the clone are.
FROM base AS code
ARG SOURCE=.
WORKDIR /app
COPY ${SOURCE}/LICENSE ${SOURCE}/service.py ./
COPY ${SOURCE}/bunriwiki bunriwiki
COPY ${SOURCE}/runners runners
COPY ${SOURCE}/models models
RUN python3 -m compileall -q --invalidation-mode unchecked-hash bunriwiki runners service.py \
    && chmod -R u=rwX,go=rX .


FROM base AS service
COPY --from=packages /opt/serve /opt/serve
COPY --from=code /app /app
WORKDIR /app
ENV PATH=/opt/serve/bin:$PATH \
    HOME=/tmp \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=true \
    BUNRIWIKI_MODEL_STORE=/store \
    BUNRIWIKI_DRAIN_SECONDS=5 \
    ORT_DISABLE_TELEMETRY=1
USER 10001:10001
EXPOSE 3000 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=90s --retries=3 CMD ["python3", "-m", "bunriwiki.container.health"]
ENTRYPOINT ["python3", "-m", "bunriwiki.container"]
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bunriwiki" \
      org.opencontainers.image.description="The models of Bunriwiki behind one API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="AGPL-3.0-or-later"


# The packages that the sidecar requires, with the CPU build of torch.
FROM packages AS sync-packages
ARG TORCH_INDEX_URL=
COPY requirements/torch.txt requirements/sync.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=certificates \
    --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    EXTENDS=/opt/serve ./install-packages /opt/sync torch.txt sync.txt


# The sidecar has the serving environment as well: new versions are evaluated in it.
FROM service AS model-sync
COPY --from=sync-packages /opt/sync /opt/sync
COPY model_sync model_sync
ENV BUNRIWIKI_SERVE_PYTHON=/opt/serve/bin/python3
LABEL org.opencontainers.image.title="bunriwiki-model-sync" \
      org.opencontainers.image.description="The sidecar of Bunriwiki's service: brings new model versions into its store"
EXPOSE 3002
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["env", "PORT=3002", "python3", "-m", "bunriwiki.container.health"]
ENTRYPOINT ["/opt/sync/bin/python3", "-m", "model_sync"]
CMD ["run"]


# Without --target, the serving image is built.
FROM service
