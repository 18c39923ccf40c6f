# A worker with your `jobs/`, for either cloud: `docker build -t cloud-worker .`, or without Docker `make image`.
# How to run it, and what it needs: docs/container.md.

# The newest patch of one Python: a base that never changes never gets a security update. A name with a digest pins it.
ARG PYTHON_IMAGE=python:3.13-slim-trixie


# --- everything that is installed; nothing else of this stage is in the image ---

FROM ${PYTHON_IMAGE} AS build
# Where packages come from, the installer (uv) too: these two may name an index of your own. What is taken from there
# is held to the same hashes.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1 \
    VIRTUAL_ENV=/opt/worker
WORKDIR /build

# Exact files by their hashes. Changed less often than the code, so in a layer before it.
COPY requirements/ requirements/
RUN python3 -m venv installer \
    && installer/bin/pip install --require-hashes -r requirements/lock.txt \
    && installer/bin/uv venv /opt/worker \
    && installer/bin/uv pip install --require-hashes \
       -r requirements/runtime.txt -r requirements/azure.txt -r requirements/aws.txt \
    && installer/bin/uv venv builder \
    && installer/bin/uv pip install --python builder --require-hashes -r requirements/build.txt

# But for the file in which uv keeps the wheel's age: the same commit must be the same image.
COPY pyproject.toml README.md LICENSE ./
COPY worker/ worker/
COPY providers/ providers/
RUN builder/bin/python -m hatchling build -t wheel \
    && installer/bin/uv pip install --no-deps --no-index --find-links dist cloud-worker \
    && sed -i '/uv_cache/d' /opt/worker/lib/python*/site-packages/cloud_worker-*.dist-info/RECORD \
    && rm /opt/worker/lib/python*/site-packages/cloud_worker-*.dist-info/uv_cache.json

# Bytecode, of Python's own library too, as who runs here can write none. By the hash of the source: a date in it would
# make every build another image, and the dates of files do not survive one.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/worker/bytecode
RUN /opt/worker/bin/python -m compileall -qf --invalidation-mode checked-hash \
    -x '^/usr/.*/(site|dist)-packages/|/(test|tests|idlelib|lib2to3|tkinter|turtledemo|ensurepip)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" /opt/worker/lib

# Yours. Readable for whoever runs it, whatever the umask of the checkout was.
COPY jobs/ /app/jobs/
RUN chmod -R u=rwX,go=rX /app


# --- the image; it runs no command to be built, and needs no shell to run ---

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Cloud Worker" \
      org.opencontainers.image.description="Identical workers, one leader, no coordinator but the storage you already have." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"

COPY --from=build /opt/worker/ /opt/worker/
COPY --from=build /app/ /app/
ENV PATH=/opt/worker/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/worker/bytecode \
    PYTHONUNBUFFERED=1

# The folder that `worker run` starts in, and finds `jobs` in.
WORKDIR /app

# It needs no rights, no name and no home, and writes no file but a store on SQLite.
USER 10001:10001
EXPOSE 8080

# Is the control loop turning? Never asks the store: a store that is away must not restart the fleet. Asked without
# urllib, which would go by the proxy that the environment may name.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import http.client, os, sys; port = int(os.environ.get('WORKER_ADMIN_PORT') or 8080); asked = http.client.HTTPConnection('127.0.0.1', port, timeout=2); asked.request('GET', '/livez'); sys.exit(asked.getresponse().status != 200)"]

# No shell in between: the worker itself must get SIGTERM, and as PID 1 reaps what its children leave behind.
STOPSIGNAL SIGTERM
ENTRYPOINT ["worker"]
CMD ["run"]
