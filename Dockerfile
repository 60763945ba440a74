# eventlog as an image: any command of the command line, as a user without rights.
#   docker build -t eventlog . && docker run --rm eventlog doctor --help

ARG PYTHON=3.12.11-slim-bookworm

FROM python:${PYTHON} AS build
RUN pip install --no-cache-dir "uv>=0.9,<1"
WORKDIR /source
COPY . .
RUN uv build --wheel --out-dir /wheels \
 && uv venv /opt/eventlog \
 && uv pip install --python /opt/eventlog/bin/python --no-cache "$(ls /wheels/*.whl)[s3]" \
 && /opt/eventlog/bin/python -m compileall -q /opt/eventlog/lib

FROM python:${PYTHON}
# tini passes signals on and reaps what a killed child leaves.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin eventlog \
 && install --directory --owner eventlog --group eventlog --mode 0700 /data
COPY --from=build /opt/eventlog /opt/eventlog
# The only place that is written to, beside /tmp: the root file system may be read-only.
ENV PATH=/opt/eventlog/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EVENTLOG_DATA_DIR=/data \
    EVENTLOG_LOG_FORMAT=json
VOLUME /data
WORKDIR /data
USER 10001:10001
EXPOSE 8420
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8420/health', timeout=3)"]
ENTRYPOINT ["tini", "--", "eventlog"]
CMD ["serve", "--host", "0.0.0.0"]
