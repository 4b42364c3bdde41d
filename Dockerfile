# avion-media: one image for all roles. What it holds, how it was tried and how it is run: docs/container.md.
#
#   docker build --build-arg BASE=docker.io/library/debian:trixie-slim@sha256:… -t avion-media .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --env-file settings avion-media serve
#
# BASE is Debian 13 by its digest; which one is yours to choose. ops/build-image makes one where no registry can be reached.
# Its ports listen on all addresses: `serve` starts only when the settings say who may use them (docs/authentication.md).
ARG BASE

# --- The locked Python environment. pdqhash has no wheels for Linux: it is compiled here.
# hadolint ignore=DL3006
FROM ${BASE} AS environment
COPY ops/image-packages ops/debian-packages.txt /usr/local/bin/
RUN image-packages /usr/local/bin/debian-packages.txt python3 python3-venv python3-dev g++ ca-certificates
# Behind a proxy that has certificates of its own: --secret id=authorities,src=FILE. A secret is in no layer.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN --mount=type=secret,id=authorities,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir 'uv>=0.9,<1'
ENV UV_PROJECT_ENVIRONMENT=/opt/avion-media UV_PYTHON_PREFERENCE=only-system UV_NO_CACHE=1 UV_LINK_MODE=copy
# Nothing of the folder in which pdqhash is compiled, which has another name in each build.
ENV CFLAGS=-g0 LDFLAGS=-Wl,--build-id=none
WORKDIR /src
# Dependencies first: they change less often than the code, and this layer is then reused.
COPY pyproject.toml uv.lock README.md ./
COPY supervisors supervisors
COPY mediascrub mediascrub
COPY mediathumbs mediathumbs
COPY trio_grpc trio_grpc
COPY trio_http1 trio_http1
COPY trio_redis trio_redis
COPY trio_s3 trio_s3
COPY trio_sandbox trio_sandbox
COPY trio_simulation trio_simulation
COPY trio_telemetry trio_telemetry
COPY guarded_fetch guarded_fetch
RUN --mount=type=secret,id=authorities,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /opt/uv/bin/uv sync --locked --no-dev --no-install-workspace --extra heic
COPY avion_media avion_media
RUN --mount=type=secret,id=authorities,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /opt/uv/bin/uv sync --locked --no-dev --no-editable --extra heic

FROM environment AS build
COPY ops/image-environment /usr/local/bin/
RUN image-environment /opt/avion-media

# --- Python, three libraries and what these need, without a package manager.
# hadolint ignore=DL3006
FROM ${BASE} AS root
COPY ops/image-packages ops/debian-packages.txt /usr/local/bin/
RUN image-packages /usr/local/bin/debian-packages.txt python3 ca-certificates libstdc++6 libturbojpeg0 libwebp7
COPY ops/image-root /usr/local/bin/
RUN image-root /root-of-image python3 ca-certificates libstdc++6 libturbojpeg0 libwebp7

# --- Target `dev`: `avion-media dev` with Redis, a store and samples, for a machine that has no Python.
FROM environment AS environment-dev
RUN --mount=type=secret,id=authorities,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /opt/uv/bin/uv sync --locked --no-dev --no-editable --extra heic --extra dev-store
# The samples are links to files of the tests.
COPY ops/demo ops/demo
COPY tests/data tests/data
RUN cp --recursive --dereference ops/demo /demo

# hadolint ignore=DL3006
FROM ${BASE} AS dev
COPY ops/image-packages ops/debian-packages.txt /usr/local/bin/
RUN image-packages /usr/local/bin/debian-packages.txt python3 ca-certificates libturbojpeg0 libwebp7 redis-server
COPY --from=environment-dev /opt/avion-media /opt/avion-media
COPY --from=environment-dev /demo /demo
ENV PATH=/opt/avion-media/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["avion-media", "dev"]

# --- What runs. No shell is started by it, and no compiler is there.
FROM scratch
COPY --from=root /root-of-image /
COPY --from=build /opt/avion-media /opt/avion-media
LABEL org.opencontainers.image.title="avion-media" \
    org.opencontainers.image.description="Media service of a federated network: uploads, thumbnails, origin, remote cache" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.vendor="Avion"
ENV PATH=/opt/avion-media/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AVION_MEDIA_GRPC__BIND=0.0.0.0:50051 \
    AVION_MEDIA_HTTP__BIND=0.0.0.0:8080 \
    AVION_MEDIA_ADMIN__BIND=0.0.0.0:9090 \
    AVION_MEDIA_LOG__FORMAT=json
# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 10001:10001
EXPOSE 50051 8080 9090
STOPSIGNAL SIGTERM
# Exec form: the service is PID 1 and gets SIGTERM itself. It reaps its own children.
ENTRYPOINT ["avion-media"]
CMD ["serve"]
