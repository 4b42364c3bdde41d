# avion-media: one image for all roles. Build: `docker build -t avion-media .`; run: `docker run avion-media serve`.
# The root file system may be read-only: give it an emptyDir (or tmpfs) at /tmp for spool files.

FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv
WORKDIR /src
# Dependencies first: they change less often than the code, and this layer is then reused.
COPY pyproject.toml uv.lock README.md ./
RUN UV_PROJECT_ENVIRONMENT=/opt/avion-media /opt/uv/bin/uv sync \
    --locked --no-dev --no-install-project --extra heic --python-preference only-system --compile-bytecode
COPY avion_media avion_media
COPY supervisors supervisors
RUN UV_PROJECT_ENVIRONMENT=/opt/avion-media /opt/uv/bin/uv sync \
    --locked --no-dev --no-editable --extra heic --python-preference only-system --compile-bytecode

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 ffmpeg ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin avion
COPY --from=build /opt/avion-media /opt/avion-media
ENV PATH=/opt/avion-media/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AVION_MEDIA_GRPC__BIND=0.0.0.0:50051 \
    AVION_MEDIA_HTTP__BIND=0.0.0.0:8080 \
    AVION_MEDIA_ADMIN__BIND=0.0.0.0:9090 \
    AVION_MEDIA_LOG__FORMAT=json
USER 10001
EXPOSE 50051 8080 9090
STOPSIGNAL SIGTERM
# Exec form: the service is PID 1 and gets SIGTERM itself. It reaps its own children.
ENTRYPOINT ["avion-media"]
CMD ["serve"]
