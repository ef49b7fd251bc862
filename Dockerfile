# One image for both processes: `tidemark api` (the default) and `tidemark worker`.

FROM python:3.11-slim-bookworm AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1

WORKDIR /build

# Without pip: nothing is installed in a running container.
RUN python -m venv --without-pip /opt/tidemark
COPY requirements/runtime.txt requirements/
RUN pip --python /opt/tidemark/bin/python install --no-deps --require-hashes --only-binary :all: -r requirements/runtime.txt

# The wheel is built by the locked setuptools: `pip wheel` would fetch whichever is the newest, without a hash.
COPY requirements/bootstrap.txt requirements/dev.txt requirements/
RUN pip install --require-hashes --only-binary :all: -r requirements/bootstrap.txt

COPY pyproject.toml README.md LICENSE NOTICE logs.py metrics.py settings.py tracing.py ./
COPY examples/licences/ examples/licences/
COPY api/ api/
COPY cli/ cli/
COPY detection/ detection/
COPY local/ local/
COPY state/ state/
COPY stream/ stream/
RUN uv build --wheel --build-constraints requirements/dev.txt --require-hashes --out-dir wheels \
    && pip --python /opt/tidemark/bin/python install --no-deps --no-index wheels/*.whl

# The learning core's machine code, for any processor of this kind, beside its sources: no container compiles it.
WORKDIR /
RUN /opt/tidemark/bin/python -m detection.kernel


FROM python:3.11-slim-bookworm

# A number, so that Kubernetes can tell that it is not root.
RUN groupadd --gid 10001 tidemark \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tidemark

COPY --from=builder /opt/tidemark /opt/tidemark

# pip compiled what it installed; the root file system may be read-only.
ENV PATH=/opt/tidemark/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /tmp
USER 10001:10001
EXPOSE 8000

# For the API, under its default port. Kubernetes ignores it and asks by its own probes; run the worker with
# `--no-healthcheck`.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]

# TIDEMARK_HTTP_HOST stays on the loopback: whoever opens it to others says so with TIDEMARK_AUTH (or TIDEMARK_INSECURE).
ENTRYPOINT ["tidemark"]
CMD ["api"]
