# batchcall-mcp over HTTP, or the dialer: `docker compose up` starts both (docs/containers.md).
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
COPY examples examples
RUN python -m pip install --quiet --no-cache-dir uv
# Compiled here: nothing can be written there later.
RUN uv venv --quiet --python python /opt/batchcall
RUN uv pip install --quiet --python /opt/batchcall --compile-bytecode '.[postgres]'

FROM python:3.11-slim
LABEL org.opencontainers.image.title="batchcall-mcp" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/batchcall /opt/batchcall
RUN install -d -o 10001 -g 10001 -m 700 /data
ENV PATH=/opt/batchcall/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BATCHCALL_DATA_DIR=/data \
    BATCHCALL_FILES=/data/lists
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["batchcall-mcp"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
