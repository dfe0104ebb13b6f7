"""Settings from the environment: where data, storage and tracking live.

Lives here: every environment variable the project reads, with its default. Does not live here: secrets in
clear text (object stores read their own AWS_* variables).

| variable | default | meaning |
|---|---|---|
| HF_PROJECT | found from the working folder upwards | folder of the project that is run; `hfp --project PATH` sets it |
| HF_DATA_DIR | `<project>/data` | folder of everything the project writes |
| HF_STORAGE_URI | `<HF_DATA_DIR>/storage` | a folder or `s3://bucket/prefix` for the assets' Parquet files |
| HF_LANDING_URI | `<HF_DATA_DIR>` | a folder or `s3://bucket/prefix` that relative addresses of `files` sources lie in |
| HF_S3_ENDPOINT | none | endpoint of an S3 service other than AWS, such as `http://127.0.0.1:9000` |
| HF_MLFLOW_URI | SQLite in `<HF_DATA_DIR>` | MLflow tracking server or SQLAlchemy address |
| HF_ACTOR | the user of the system | by whom the trials of the ledger are made: a person or an agent |
| HF_ANSWER_TRIALS | 1 | 0: a configuration that was tried on the same data by the same code is fitted again all the same |
| HF_SET__ | none | beginning of variables that set a field of a strategy, HF_SET__TECH_DIRECTION__TARGET__HORIZON_BARS=3: checked as its YAML is, and read when a process starts |
| HF_TICK_SECONDS | 15 | how often the sensors look for new files and features |
| HF_POSTGRES_URL | none | Dagster keeps its runs there instead of in SQLite |
| HF_WEBHOOK_URL | none | notifications are posted there as JSON besides being logged; the address is a secret |
| HF_PORTFOLIO_URL | none | payloads of promotions are posted there as JSON besides lying in the store; the address is a secret |
| HF_ALERT_URLS | none | channels that are alerted: addresses of apprise, by blanks, a name before each as in desk=slack://...; they are secrets |
| HF_ALERT_ROUTES | all to each | which channel takes what, by semicolons: oncall: severity=critical; desk: strategy=momentum_* kind=drift,decay |
| HF_ALERT_QUIET, HF_ALERT_TIMEZONE | none, UTC | hours in which only what is critical is sent, such as 22:00-07:00, and the time zone of these and of messages |
| HF_ALERT_GATHER_SECONDS, HF_ALERT_REMIND_HOURS | 60, 24 | without anything new for so long what waits is one message; what is open is told again after so long |
| HF_UI_URL | `http://127.0.0.1:3000` | where the web UI is reached, for the links in notifications |
| HF_DOCS_URL | none | where the site that `make docs` builds is served: assets link to their page there |
| HF_UI_HOSTS | none | names besides 127.0.0.1 and localhost under which the web UI answers, by commas |
| HF_LATE_HOURS | 6 | hours after which bars, models and signals that are not there are late |
| HF_SILENT_MINUTES | 10 | minutes without a successful tick, a sign of the daemon or a move of the queue that are an alarm |
| HF_LEAST_DISK_MB | 1000 | below so much room on the disk of the data folder there is an alarm |
| HF_LEAST_MEMORY_MB | 300 | below so much free memory there is an alarm |
| HF_CACHE_DIR | none | folder of copies of what was read from a bucket; without it every read fetches |
| HF_CACHE_MB | 2000 | size above which the least recently used copies go |
| HF_KEEP_DAYS | 90 | what is younger is never removed: versions of partitions, Dagster's runs |
| HF_KEEP_VERSIONS | 10 | so many versions of each partition stay, however old |
| HF_KEEP_GB | any number | above so much of versions, of logs or of states of fits the oldest go before their time |
| HF_MAX_FILE_MB | 500 | a file or an answer that arrives is refused unread above this size |
| HF_MAX_TABLE_MB | 1000 | and undecoded if its table would take more than this in memory |
| HF_MAX_OBJECT_MB | 4000 | both of a stored object that is read back, and of a table of source `lean` |
| HF_MAX_ROWS, HF_MAX_COLUMNS | 50000000, 4000 | of any table |
| HF_FOLDS_AT_A_TIME | 2 | folds of a cross-validation that are fitted at a time, one thread each; 1 takes less memory |
| HF_FAN_OUT | threads | where the tasks of a study run: threads, processes (of this machine), or ray (tasks of a cluster) |
| HF_FAN_OUT_WORKERS | as many as cores | tasks at a time; on one machine never more than it has cores, each with its share of them as threads |
| HF_RAY_ADDRESS | none | head of the Ray cluster, such as 10.0.0.5:6379, or auto; without it `ray` means a Ray of this machine |
| HF_STUDIES_URL | a journal a strategy in `<HF_DATA_DIR>/studies` | PostgreSQL database that shows running studies to Optuna's tools; the address is a secret |
| HF_MLFLOW_TRIALS | best | which trials of a study become runs of MLflow: best (20 and the front) or all |
| HF_PICTURES | all | none: assets are made without pictures, a fifth of a second less for each; for backfills of hundreds of weeks |
| HF_READER_MEMORY_MB | 6000 | what the process that reads files of others may take |
| DAGSTER_HOME | `<HF_DATA_DIR>/dagster_home` | folder of the Dagster instance |
| AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN | none | keys of the object store |
| HF_S3_MACHINE_ROLE | 0 | 1: where there are none, those of the machine's role, asked for at the cloud's metadata address |
| AWS_EC2_METADATA_DISABLED | true | set by the project unless HF_S3_MACHINE_ROLE is 1: no key is asked for at the cloud's metadata address |
| AWS_REGION, AWS_DEFAULT_REGION | AWS' own | region of the bucket; boto3 reads the second, obstore both |
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile

from hf_pipelines.resources.alert_settings import alert_settings
from hf_pipelines.resources.project import find_project, require_project
from hf_pipelines.resources.redaction import shown_address
from hf_pipelines.resources.requirements import require_all
from hf_pipelines.resources.variables import one_of, whole_number

ACTOR_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}"

# Where tasks run; the first is the default.
FAN_OUTS = ("threads", "processes", "ray")
PICTURES = ALL_PICTURES, NO_PICTURES = ("all", "none")

# A page of each of Dagster's databases, and some more.
PROBE_BYTES = 1 << 16
MAX_SILENT_MINUTES = 1440

# Ten days: after that an absence is not looked for.
MAX_LATE_HOURS = 240


def data_dir() -> Path:
    """Folder of everything the project writes.

    Raises
    ------
    ValueError
        If the variable names something that is no folder, or lies below it.
    """
    if configured := os.environ.get("HF_DATA_DIR"):
        try:
            folder = Path(configured).expanduser().resolve()
            there = next(each for each in (folder, *folder.parents) if each.exists())
        except (RuntimeError, OSError) as e:
            # A link that leads to itself, a name that no disk takes.
            raise ValueError(f"`HF_DATA_DIR` must be a folder, was {configured[:200]} ({str(e)[:200]}).") from e
        if not there.is_dir():
            what = "a file" if there == folder else f"below the file {there}"
            raise ValueError(
                f"`HF_DATA_DIR` must be a folder, was {str(folder)[:200]}, {what}; name a folder: it is made if it is not there."
            )
        return folder
    project = find_project()
    return (Path.cwd() if project is None else project.root) / "data"


def storage_uri() -> str:
    """Where the assets' Parquet files live: a folder or `s3://bucket/prefix`.

    Raises
    ------
    ValueError
        If it is neither, such as `s3:/bucket`.
    """
    given = os.environ.get("HF_STORAGE_URI")
    if given and re.match(r"\w+:", given) and not given.startswith("s3://"):
        raise ValueError(
            f"`HF_STORAGE_URI` must be a folder or s3://bucket/prefix, was {shown_address(given)[:200]!r}."
        )
    return given or str(data_dir() / "storage")


def landing_uri() -> str:
    """Where relative addresses of `files` sources lie: a folder or `s3://bucket/prefix`.

    Raises
    ------
    ValueError
        If it is neither.
    """
    given = os.environ.get("HF_LANDING_URI")
    if given and re.match(r"\w+:", given) and not given.startswith("s3://"):
        raise ValueError(
            f"`HF_LANDING_URI` must be a folder or s3://bucket/prefix, was {shown_address(given)[:200]!r}."
        )
    return (given or str(data_dir())).rstrip("/")


def s3_endpoint() -> str | None:
    """Endpoint of an S3 service other than AWS, None for AWS itself.

    Raises
    ------
    ValueError
        If it is no address.
    """
    given = os.environ.get("HF_S3_ENDPOINT") or None
    if given and not re.match(r"https?://[^/]", given):
        # It may hold a password: it is not repeated.
        raise ValueError("`HF_S3_ENDPOINT` must be an address such as http://127.0.0.1:9000, was none.")
    return given


def mlflow_uri() -> str:
    """MLflow tracking server or SQLAlchemy address."""
    return os.environ.get("HF_MLFLOW_URI") or f"sqlite:///{data_dir() / 'mlflow.db'}"


def actor() -> str | None:
    """By whom trials are made, None for the user of the system.

    Raises
    ------
    ValueError
        If it is no name.
    """
    given = os.environ.get("HF_ACTOR") or None
    if given and not re.fullmatch(ACTOR_PATTERN, given):
        raise ValueError(f"`HF_ACTOR` must be a name of at most 64 letters, digits and ._@+-, was {given[:80]!r}.")
    return given


def answers_trials() -> bool:
    """Whether what was tried on the same data by the same code is answered from what is stored, and not fitted again."""
    return whole_number("HF_ANSWER_TRIALS", 1, least=0, most=1) == 1


def require_sound() -> None:
    """Refuse variables that a command would stumble over later, or never notice.

    Raises
    ------
    ValueError
        A line for each of them.
    """
    require_all(
        data_dir,
        storage_uri,
        landing_uri,
        s3_endpoint,
        ui_url,
        actor,
        answers_trials,
        fan_out,
        pictures,
        ray_address,
        studies_url,
        alert_settings,
        *NUMBERS,
    )


def tick_seconds() -> int:
    """Seconds between two looks of a sensor."""
    return whole_number("HF_TICK_SECONDS", 15, least=1, most=86_400)


def keep_days() -> int:
    """Age below which nothing is removed."""
    return whole_number("HF_KEEP_DAYS", 90, least=1, most=36_500)


def keep_versions() -> int:
    """Versions of a partition that stay, however old."""
    return whole_number("HF_KEEP_VERSIONS", 10, least=0, most=1_000_000)


def keep_bytes() -> int | None:
    """Bytes of one kind of old things above which the oldest go before their time, None for any number."""
    return whole_number("HF_KEEP_GB", 0, least=0, most=1_000_000) * 1_000_000_000 or None


def cache_dir() -> Path | None:
    """Folder of copies of what was read from a bucket, None for no copies."""
    configured = os.environ.get("HF_CACHE_DIR")
    return Path(configured).expanduser().resolve() if configured else None


def cache_bytes() -> int:
    """Size above which the least recently used copies go."""
    return whole_number("HF_CACHE_MB", 2000, least=1, most=1_000_000_000) * 1_000_000


def max_file_bytes() -> int:
    """Size above which a file or an answer that arrives is refused unread."""
    return whole_number("HF_MAX_FILE_MB", 500, least=1) * 1_000_000


def max_table_bytes() -> int:
    """Memory above which the table of what arrives is refused undecoded."""
    return whole_number("HF_MAX_TABLE_MB", 1000, least=1) * 1_000_000


def max_object_bytes() -> int:
    """Size, and memory when decoded, above which a stored object is refused."""
    return whole_number("HF_MAX_OBJECT_MB", 4000, least=1) * 1_000_000


def max_rows() -> int:
    """Rows above which a table is refused undecoded: 5,000 symbols have two million bars of a minute a session."""
    return whole_number("HF_MAX_ROWS", 50_000_000, least=1)


def max_columns() -> int:
    """Columns above which a table is refused undecoded."""
    return whole_number("HF_MAX_COLUMNS", 4000, least=1)


def reader_memory_bytes() -> int:
    """Memory of the process that parses files from outside; below the minimum its libraries do not fit in."""
    return whole_number("HF_READER_MEMORY_MB", 6000, least=500) * 1_000_000


def folds_at_a_time() -> int:
    """Folds that are fitted side by side, one thread each; the results are the same for any number."""
    return whole_number("HF_FOLDS_AT_A_TIME", 2, least=1, most=1_000)


def fan_out() -> str:
    """Backend of tasks that run side by side: threads, processes or ray."""
    return one_of("HF_FAN_OUT", FAN_OUTS)


def fan_out_workers() -> int | None:
    """Tasks at a time, None for as many as there are cores."""
    return whole_number("HF_FAN_OUT_WORKERS", 0, least=0, most=100_000) or None


def pictures() -> str:
    """Whether assets are shown with pictures: all or none."""
    return one_of("HF_PICTURES", PICTURES)


def ray_address() -> str | None:
    """Head of a Ray cluster, None for a Ray of this machine.

    Raises
    ------
    ValueError
        If it is no address.
    """
    given = os.environ.get("HF_RAY_ADDRESS") or None
    if (
        given
        and given != "auto"
        and not re.fullmatch(r"(ray://)?[\w.-]+:[0-9]{1,5}|(ray://)?\[[0-9a-fA-F:]+\]:[0-9]{1,5}", given)
    ):
        raise ValueError(f"`HF_RAY_ADDRESS` must be host:port or auto, was {shown_address(given)[:80]!r}.")
    return given


def dagster_home() -> Path:
    """Folder of the Dagster instance that our own commands use."""
    return Path(os.environ.get("DAGSTER_HOME") or data_dir() / "dagster_home")


def written_folders() -> list[Path]:
    """Folders of this machine that the project writes into."""
    storage = [] if "://" in storage_uri() else [Path(storage_uri()).expanduser().resolve()]
    cache = cache_dir()
    return [data_dir(), dagster_home(), *storage, *([] if cache is None else [cache])]


def postgres_url() -> str | None:
    """Address of the PostgreSQL database that keeps Dagster's runs and events, None for SQLite.

    SQLAlchemy 2.1 takes `postgresql://` for another driver than the one installed: it is named.
    """
    url = os.environ.get("HF_POSTGRES_URL")
    return url.replace("postgresql://", "postgresql+psycopg2://", 1) if url else None


def studies_url() -> str | None:
    """PostgreSQL database that shows studies, None for journals in the data folder.

    Raises
    ------
    ValueError
        If it is the address of something else.
    """
    url = os.environ.get("HF_STUDIES_URL") or None
    if url and not re.match(r"postgresql(\+psycopg2)?://[^/]", url):
        # It may hold a password: it is not repeated.
        raise ValueError(
            "`HF_STUDIES_URL` must be like postgresql://user:password@host:5432/database, was something else."
        )
    return url.replace("postgresql://", "postgresql+psycopg2://", 1) if url else None


def logs_every_trial() -> bool:
    """Whether every trial of a study becomes a run of MLflow."""
    return one_of("HF_MLFLOW_TRIALS", ("best", "all")) == "all"


def webhook_url() -> str | None:
    """Where notifications are posted, None for the log alone. It may hold a token: never log it."""
    return os.environ.get("HF_WEBHOOK_URL") or None


def portfolio_url() -> str | None:
    """Where payloads of promotions are posted, None for the store alone. It may hold a token: never log it."""
    return os.environ.get("HF_PORTFOLIO_URL") or None


def docs_url() -> str:
    return os.environ.get("HF_DOCS_URL", "").rstrip("/")


def ui_url() -> str:
    """Where operators reach the web UI.

    Raises
    ------
    ValueError
        If it is no address.
    """
    url = os.environ.get("HF_UI_URL") or "http://127.0.0.1:3000"
    if not re.match(r"https?://[^/]", url):
        raise ValueError(
            f"`HF_UI_URL` must be an address such as http://127.0.0.1:3000, was {shown_address(url)[:80]!r}."
        )
    return url.rstrip("/")


def late_after() -> timedelta:
    """Time after the due time from which something missing counts as late.

    Raises
    ------
    ValueError
        If the variable is no number of hours.
    """
    return timedelta(hours=_number("HF_LATE_HOURS", 6, most=MAX_LATE_HOURS))


def silent_after() -> timedelta:
    """How long the daemon, a sensor or the queue may be silent before it counts as stopped.

    Raises
    ------
    ValueError
        If the variable is no number of minutes.
    """
    return timedelta(minutes=_number("HF_SILENT_MINUTES", 10, most=MAX_SILENT_MINUTES))


def least_disk_bytes() -> int:
    """Room on a disk below which there is an alarm."""
    return whole_number("HF_LEAST_DISK_MB", 1000, least=0) * 1_000_000


def least_memory_bytes() -> int:
    """Free memory below which there is an alarm."""
    return whole_number("HF_LEAST_MEMORY_MB", 300, least=0) * 1_000_000


def _number(name: str, default: int, *, most: int) -> float:
    text = os.environ.get(name) or str(default)
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= most:
        raise ValueError(f"`{name}` must be a number from 0 to {most}, was {text[:40]!r}.")
    return found


NUMBERS = (
    tick_seconds, keep_days, keep_versions, keep_bytes, cache_bytes, late_after, silent_after, least_disk_bytes, least_memory_bytes,
    max_file_bytes, max_table_bytes, max_object_bytes, max_rows, max_columns, reader_memory_bytes, folds_at_a_time, fan_out_workers,
)  # fmt: skip


def prepare_dagster_home() -> Path:
    """Create the folder of the Dagster instance with the project's dagster.yaml in it, and set DAGSTER_HOME.

    Raises
    ------
    ValueError
        If the folder cannot be written, or its disk is full.
    """
    home = dagster_home()
    link, source = home / "dagster.yaml", require_project().root / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if source.exists() and not link.exists():
            link.symlink_to(source)
        # Written and removed: the databases in it do not report this in one line.
        with TemporaryFile(dir=home) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as e:
        raise ValueError(
            f"`{'DAGSTER_HOME' if os.environ.get('DAGSTER_HOME') else 'HF_DATA_DIR'}` must be a folder that can be written, was "
            f"{str(home)[:200]} ({e.strerror or e}); make room or set it to another folder."
        ) from e
    os.environ["DAGSTER_HOME"] = str(home)
    return home
