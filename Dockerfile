# avion-media: one image for all roles. What it holds, how it was tried and how it is run: docs/container.md.
#
#   docker build -t avion-media .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --env-file settings avion-media serve
#
# Its ports listen on all addresses: `serve` starts only when the settings say who may use them (docs/authentication.md).

# --- The locked Python environment. pdqhash has no wheels for Linux: it is compiled here.
FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv python3-dev g++ ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# Behind a proxy that has certificates of its own: --secret id=authorities,src=FILE. A secret is in no layer.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN --mount=type=secret,id=authorities,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir 'uv>=0.9,<1'
ENV UV_PROJECT_ENVIRONMENT=/opt/avion-media UV_PYTHON_PREFERENCE=only-system UV_NO_CACHE=1 UV_LINK_MODE=copy
WORKDIR /src
# Dependencies first: they change less often than the code, and this layer is then reused.
COPY pyproject.toml uv.lock README.md ./
COPY supervisors supervisors
COPY mediascrub mediascrub
COPY trio_grpc trio_grpc
RUN --mount=type=secret,id=authorities,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /opt/uv/bin/uv sync --locked --no-dev --no-install-workspace --extra heic --compile-bytecode
COPY avion_media avion_media
RUN --mount=type=secret,id=authorities,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /opt/uv/bin/uv sync --locked --no-dev --no-editable --extra heic --compile-bytecode \
    && rm /opt/avion-media/.lock
# PyAV and Pillow leave the symbols in their modules: 30 MB.
RUN find /opt/avion-media -name '*.so' \( -path '*/av/*' -o -path '*/PIL/*' \) -exec strip --strip-unneeded {} +

# --- What runs: Python, two libraries and the environment. No shell is started by it, and no compiler is there.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 ca-certificates libturbojpeg0 libwebp7 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 avion \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin avion
COPY --from=build /opt/avion-media /opt/avion-media
ENV PATH=/opt/avion-media/bin:$PATH \
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
