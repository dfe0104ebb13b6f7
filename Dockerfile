# One image for webserver, daemon, code server and MLflow server: what differs is the command.
FROM python:3.11.14-slim-bookworm

# XGBoost and LightGBM use OpenMP.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONUNBUFFERED=1 \
    PYTHONWARNINGS=ignore \
    DAGSTER_HOME=/opt/dagster/home \
    HF_DATA_DIR=/opt/data \
    NUMBA_CACHE_DIR=/opt/data/numba

WORKDIR /opt/hf_pipelines

# Libraries first: a change of our code does not install them again.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir hf_pipelines && touch hf_pipelines/__init__.py \
    && pip install --no-cache-dir --constraint constraints.txt --editable '.[all]'

COPY hf_pipelines ./hf_pipelines
COPY workspace.yaml ./
COPY deploy/workspace.yaml /opt/dagster/workspace.yaml
COPY dagster.yaml /opt/dagster/home/dagster.yaml

# The folders that volumes are mounted on belong to the user that writes them.
RUN useradd --uid 10001 --create-home hf \
    && mkdir -p /opt/dagster/home/storage /opt/data \
    && chown -R hf:hf /opt/dagster/home /opt/data
USER hf
