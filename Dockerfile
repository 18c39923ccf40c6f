# A worker with your `jobs/`, for either cloud. `docker build -t cloud-worker .`, then
# `docker run --env-file .env cloud-worker`: .env.example names every setting.

# The newest patch of one Python: a base image that never changes never gets a security update.
FROM python:3.13-slim-trixie

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# The folder that `worker run` starts in, and finds `jobs` in.
WORKDIR /app

# Exact files by their hashes. Changed less often than the code, so in a layer before it.
COPY requirements/ requirements/
RUN pip install --require-hashes \
    -r requirements/build.txt -r requirements/runtime.txt -r requirements/azure.txt -r requirements/aws.txt

COPY pyproject.toml README.md LICENSE ./
COPY worker/ worker/
COPY providers/ providers/
RUN pip install --no-deps --no-build-isolation .

COPY jobs/ jobs/

# It needs no rights, and writes no file.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin worker
USER 10001

# Is the control loop turning? Never asks the store: a store that is away must not restart the fleet.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]

# No shell in between: the worker itself must get SIGTERM, and as PID 1 reaps what its children leave behind.
ENTRYPOINT ["worker"]
CMD ["run"]
