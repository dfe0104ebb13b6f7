"""Settings from the environment: where data, storage and tracking live.

Lives here: every environment variable the project reads, with its default. Does not live here: secrets in
clear text (object stores read their own AWS_* variables).

| variable | default | meaning |
|---|---|---|
| HF_DATA_DIR | `<project>/data` | folder of everything the project writes |
| HF_STORAGE_URI | `<HF_DATA_DIR>/storage` | a folder or `s3://bucket/prefix` for the assets' Parquet files |
| HF_S3_ENDPOINT | none | endpoint of an S3 service other than AWS, such as `http://127.0.0.1:9000` |
| HF_MLFLOW_URI | SQLite in `<HF_DATA_DIR>` | MLflow tracking server or SQLAlchemy address |
| HF_POSTGRES_URL | none | Dagster keeps its runs there instead of in SQLite |
"""

import os
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """Folder of everything the project writes."""
    if configured := os.environ.get("HF_DATA_DIR"):
        return Path(configured).expanduser().resolve()
    is_checkout = (PACKAGE_ROOT.parent / "pyproject.toml").exists()
    return (PACKAGE_ROOT.parent if is_checkout else Path.cwd()) / "data"


def storage_uri() -> str:
    """Where the assets' Parquet files live: a folder or `s3://bucket/prefix`."""
    return os.environ.get("HF_STORAGE_URI") or str(data_dir() / "storage")


def s3_endpoint() -> str | None:
    """Endpoint of an S3 service other than AWS, None for AWS itself."""
    return os.environ.get("HF_S3_ENDPOINT") or None


def mlflow_uri() -> str:
    """MLflow tracking server or SQLAlchemy address."""
    return os.environ.get("HF_MLFLOW_URI") or f"sqlite:///{data_dir() / 'mlflow.db'}"


def dagster_home() -> Path:
    """Folder of the Dagster instance that our own commands use."""
    return Path(os.environ.get("DAGSTER_HOME") or data_dir() / "dagster_home")


def postgres_url() -> str | None:
    """Address of the PostgreSQL database that keeps Dagster's runs and events, None for SQLite.

    SQLAlchemy 2.1 takes `postgresql://` for another driver than the one installed: it is named.
    """
    url = os.environ.get("HF_POSTGRES_URL")
    return url.replace("postgresql://", "postgresql+psycopg2://", 1) if url else None


def prepare_dagster_home() -> Path:
    """Create the folder of the Dagster instance with the project's dagster.yaml in it, and set DAGSTER_HOME."""
    home = dagster_home()
    home.mkdir(parents=True, exist_ok=True)
    link, source = home / "dagster.yaml", PACKAGE_ROOT.parent / "dagster.yaml"
    if source.exists() and not link.exists():
        link.symlink_to(source)
    os.environ["DAGSTER_HOME"] = str(home)
    return home
