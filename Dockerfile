# One image for both processes: `tidemark api` (the default) and `tidemark worker`.

FROM python:3.11-slim-bookworm AS builder

# The same files at every build, but for what is compiled: no file of the environment, and no user, is younger than this.
ARG SOURCE_DATE_EPOCH=1763683200

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONHASHSEED=0 \
    UV_NO_CACHE=1

WORKDIR /build

# Without pip: nothing is installed in a running container.
RUN python -m venv --without-pip /opt/tidemark
COPY requirements/runtime.txt requirements/
RUN pip --python /opt/tidemark/bin/python install --no-compile --no-deps --require-hashes --only-binary :all: \
    -r requirements/runtime.txt

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
    && pip --python /opt/tidemark/bin/python install --no-compile --no-deps --no-index wheels/*.whl

# The tests of the libraries, and their sources in C and Cython, run nowhere. What is left is compiled, and each compiled file names its
# source by content: by the time of the source, as Python does by default, no two builds would be the same.
# Then the learning core's machine code, for any processor of this kind, beside its sources: no container compiles it. Its
# cache knows the sources by their time, so that is set before, and is the same in the image (COPY keeps it).
WORKDIR /
RUN find /opt/tidemark/lib -depth -type d \( -name tests -o -name include \) -exec rm -r {} + \
    && find /opt/tidemark/lib -type f -regex '.*\.\(a\|h\|hpp\|c\|cpp\|pyx\|pxd\)' -delete \
    && /opt/tidemark/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/tidemark/lib \
    && find /opt/tidemark -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} + \
    && /opt/tidemark/bin/python -m detection.kernel \
    && find /opt/tidemark -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +


FROM python:3.11-slim-bookworm

ARG SOURCE_DATE_EPOCH=1763683200

LABEL org.opencontainers.image.title="tidemark" \
      org.opencontainers.image.licenses="Apache-2.0"

# The builder compiled everything; the root file system may be read-only.
ENV PATH=/opt/tidemark/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# The base image's own installer goes: nothing is installed in a running container.
# The user is a number, so that Kubernetes can tell that it is not root.
RUN pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip \
    && groupadd --gid 10001 tidemark \
    && useradd --no-log-init --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tidemark

COPY --from=builder /opt/tidemark /opt/tidemark

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
