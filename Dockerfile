# The images of the service and of its sidecar: docs/containers.md describes targets, build arguments and secrets.
# `bentoml build` reads it as well, as the template of the Bento's Dockerfile: there the next comment has a second line.

ARG PYTHON_IMAGE=python:3.11-slim
ARG DOCKER_CLI_IMAGE=docker:28-cli
ARG SOURCE=.
# In a Bento, the code is in a folder of its own. {{ "\nARG SOURCE=src" }}

FROM ${PYTHON_IMAGE} AS base
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# The image of Python has no bytecode of its standard library, and nothing can write it later: the root is read-only.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(site-packages|dist-packages|test|idlelib|lib2to3)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 10001 bunriwiki \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bunriwiki \
    && install -d -o bunriwiki -g bunriwiki /store /store/run /store/rollout /logs /data


# Apart from the stage that uses them, so that the packages are installed once for the clone and its Bento.
FROM scratch AS locks
ARG SOURCE
COPY ${SOURCE}/scripts/install-packages ${SOURCE}/requirements/serve.txt /


# What both images share: the packages that serving requires. Whatever is mounted is below /run, in memory, so that the image has
# no trace of it, and packages are installed in the image's own layer, where they need not be copied to.
FROM base AS serving
RUN --mount=type=tmpfs,target=/run \
    --mount=type=bind,from=locks,target=/run/build \
    --mount=type=secret,id=pip.conf \
    --mount=type=secret,id=certificates \
    --mount=type=cache,target=/run/pip,sharing=locked \
    /run/build/install-packages /opt/serve /run/build/serve.txt
WORKDIR /app
ENV PATH=/opt/serve/bin:$PATH \
    HOME=/tmp \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=true \
    BUNRIWIKI_MODEL_STORE=/store \
    BUNRIWIKI_DRAIN_SECONDS=5


# The code and the fallback models, readable by everybody whatever their rights are in the clone.
FROM base AS code
ARG SOURCE
WORKDIR /app
COPY ${SOURCE}/LICENSE ${SOURCE}/service.py ./
COPY ${SOURCE}/bunriwiki bunriwiki
COPY ${SOURCE}/runners runners
COPY ${SOURCE}/models models
RUN python3 -m compileall -q --invalidation-mode unchecked-hash bunriwiki runners service.py \
    && chmod -R u=rwX,go=rX .


FROM base AS sync-code
WORKDIR /app
COPY model_sync model_sync
RUN python3 -m compileall -q --invalidation-mode unchecked-hash model_sync \
    && chmod -R u=rwX,go=rX .


# The sidecar: it has the serving environment as well, because new versions are evaluated in it.
FROM serving AS model-sync
# OpenCV, which ultralytics requires, is linked with them.
# hadolint ignore=DL3008
RUN --mount=type=tmpfs,target=/run \
    --mount=type=secret,id=apt.conf \
    if [ -s /run/secrets/apt.conf ]; then export APT_CONFIG=/run/secrets/apt.conf; fi \
    && apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends libgl1 libglib2.0-0 libsm6 libxcb1 libxext6 \
    && rm -rf /var/lib/apt/lists/*
# The packages that it requires besides, with the CPU build of torch.
ARG TORCH_INDEX_URL=
RUN --mount=type=tmpfs,target=/run \
    --mount=type=bind,from=locks,target=/run/build \
    --mount=type=bind,source=requirements,target=/run/requirements \
    --mount=type=secret,id=pip.conf \
    --mount=type=secret,id=certificates \
    --mount=type=cache,target=/run/pip,sharing=locked \
    EXTENDS=/opt/serve /run/build/install-packages /opt/sync /run/requirements/torch.txt /run/requirements/sync.txt
COPY --from=code /app /app
COPY --from=sync-code /app /app
ENV BUNRIWIKI_SERVE_PYTHON=/opt/serve/bin/python3
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bunriwiki-model-sync" \
      org.opencontainers.image.description="The sidecar of Bunriwiki's service: brings new model versions into its store" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="AGPL-3.0-or-later"
USER 10001:10001
EXPOSE 3002
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["env", "PORT=3002", "python3", "-m", "bunriwiki.container.health", "/livez", "BUNRIWIKI_SYNC_CERTIFICATE"]
ENTRYPOINT ["/opt/sync/bin/python3", "-m", "model_sync"]
CMD ["run"]


FROM ${DOCKER_CLI_IMAGE} AS docker-cli


# The rollout: the sidecar's image with Docker's client, which it drives the engine with.
FROM model-sync AS rollout
COPY --from=docker-cli /usr/local/bin/docker /usr/local/bin/docker
COPY --from=docker-cli /usr/local/libexec/docker/cli-plugins/docker-compose /usr/local/libexec/docker/cli-plugins/docker-compose
COPY deploy/rollout/Dockerfile /app/deploy/rollout/Dockerfile
# The other labels are those of model-sync.
LABEL org.opencontainers.image.title="bunriwiki-rollout" \
      org.opencontainers.image.description="The rollout of Bunriwiki's service: replaces its replicas by those of an image with the serving versions"
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "-m", "bunriwiki.container.alive", "/store/rollout/state.json"]
CMD ["rollout", "run"]


# The service. It is the last stage, so that it is built where no target is named.
FROM serving AS service
COPY --from=code /app /app
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bunriwiki" \
      org.opencontainers.image.description="The models of Bunriwiki behind one API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="AGPL-3.0-or-later"
USER 10001:10001
EXPOSE 3000 3001 3003
HEALTHCHECK --interval=5s --timeout=5s --start-period=90s CMD ["python3", "-m", "bunriwiki.container.health"]
ENTRYPOINT ["python3", "-m", "bunriwiki.container"]
