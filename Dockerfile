# syntax=docker/dockerfile:1
# The service as an image, see docs/deployment.md. EXTRAS=gpu builds the one for NVIDIA GPUs.
# The versions of constraints.txt are tested on this Python.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# Dependencies are installed in a layer of their own, which a change of regard's code does not rebuild.
FROM ${PYTHON_IMAGE} AS environment
# cpu or gpu, and after it what the profile cluster needs: milvus, ray.
ARG EXTRAS=cpu
# PyPI's torch is a CUDA build of several gigabytes; PyTorch's own index has one for CPUs.
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c 'import sys, tomllib; \
project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = project["optional-dependencies"]; \
names = [*sys.argv[1].split(","), "postgres", "s3"]; \
print(*project["dependencies"], *(line for name in names for line in extras[name]), sep="\n")' "$EXTRAS" \
    > requirements.txt \
    && case "$EXTRAS" in cpu*) export PIP_EXTRA_INDEX_URL="$TORCH_CPU_INDEX";; esac \
    && python -m venv /opt/regard \
    && /opt/regard/bin/pip install --no-cache-dir -r requirements.txt -c constraints.txt
COPY --from=wheel /wheels /wheels
RUN /opt/regard/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && /opt/regard/bin/pip check

FROM ${PYTHON_IMAGE}
# A fixed id, so that volumes keep their owner from build to build. This user can write only to /data.
RUN groupadd --gid 10001 regard \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin regard \
    && install --directory --owner regard --group regard --mode 0700 /data
COPY --from=environment /opt/regard /opt/regard
ENV PATH=/opt/regard/bin:$PATH \
    HOME=/data \
    REGARD_HOME=/data \
    HF_HOME=/data/models \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8420
# http.client ignores the container's proxy variables.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8420, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["regard"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8420", "--home", "/data"]
