"""MLflow's values: what may be logged, in the names, the sizes and the batches that it takes.

Lives here: the limits of MLflow's stores and servers. Does not live here: to which run something is logged (`mlflow_runs`).
"""

import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_pipelines.resources.redaction import redacted

# Longer values are refused, and larger batches. That of a parameter is read from MLflow: Qlib makes it shorter for its process.
MAX_TAG_LENGTH = 8_000
MAX_NAME_LENGTH = 250
MAX_METRICS = 1_000
MAX_PARAMS_OR_TAGS = 100
# A sha256 does not fit.
DIGEST_LENGTH = 36

_REFUSED = re.compile(r"[^\w\-. :/]", flags=re.ASCII)

# Where a run says which metrics it was not given.
NOT_FINITE = "hf.not_finite"


@dataclass(frozen=True)
class DatasetNote:
    """A dataset by pointer: its rows stay in our store.

    Attributes
    ----------
    name, address : str
    content_hash : str
        MLflow keeps how it begins.
    columns : sequence of str
    n_rows : int
    """

    name: str
    address: str
    content_hash: str
    columns: Sequence[str]
    n_rows: int

    def to_mlflow(self) -> Any:
        """As `log_inputs` takes it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        columns = [{"name": name, "type": "float"} for name in self.columns]
        dataset = Dataset(
            name=self.name[:500],
            digest=self.content_hash[:DIGEST_LENGTH],
            source_type="hf_pipelines",
            source=json.dumps({"uri": redacted(self.address), "sha256": self.content_hash}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({"num_rows": self.n_rows}),
        )
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


@dataclass(frozen=True)
class ModelNote:
    """A fitted model by pointer: its bytes stay in our store.

    Attributes
    ----------
    name : str
        Letters, digits, `_` and `-`.
    address, sha256 : str
        Of the artifact.
    tags : mapping
    """

    name: str
    address: str
    sha256: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunNotes:
    """What is logged of a run.

    Attributes
    ----------
    params, metrics, tags : mapping
        Metrics that are infinite or NaN are left out, and the tag `hf.not_finite` names them.
    steps : mapping of str to sequence of float
        Metrics with a value for each step, 0, 1, ...
    dataset, model : optional
    files : mapping of str to bytes
        Pictures and texts by their names, such as `pictures/equity.png`.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    dataset: DatasetNote | None = None
    model: ModelNote | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def loggable_name(name: str) -> str:
    """A name as MLflow takes it: what it refuses becomes `_`.

    Examples
    --------
    >>> loggable_name("loss(train), 5%")
    'loss_train__ 5_'
    >>> loggable_name("/a//../b")
    'b'
    """
    plain = posixpath.normpath(_REFUSED.sub("_", name)).strip("/")
    return "/".join(part for part in plain.split("/") if part not in ("", ".", ".."))[:MAX_NAME_LENGTH] or "_"


def batches(notes: RunNotes, *, time_ms: int) -> Iterator[dict[str, list[Any]]]:
    """Arguments of `log_batch`, call after call.

    Parameters
    ----------
    notes : RunNotes
    time_ms : int
        Of every point: the same point logged again is the same point.
    """
    from mlflow.entities import Metric, Param, RunTag

    points = [(name, value, 0) for name, value in notes.metrics.items()]
    points += [(name, v, at) for name, values in notes.steps.items() for at, v in enumerate(values) if v is not None]
    lacking = sorted({name for name, value, _ in points if not math.isfinite(value)})
    tags = {**notes.tags, **({NOT_FINITE: ", ".join(lacking)} if lacking else {})}
    listed: dict[str, list[Any]] = {
        "metrics": [
            Metric(loggable_name(name), float(value), time_ms, at) for name, value, at in points if math.isfinite(value)
        ],
        "params": [Param(loggable_name(name), shortened(value)) for name, value in notes.params.items()],
        "tags": [RunTag(name, redacted(str(value))[:MAX_TAG_LENGTH]) for name, value in tags.items()],
    }
    sizes = {"metrics": MAX_METRICS, "params": MAX_PARAMS_OR_TAGS, "tags": MAX_PARAMS_OR_TAGS}
    n_calls = max(-(-len(values) // sizes[kind]) for kind, values in listed.items())
    for call in range(n_calls):
        yield {kind: listed[kind][call * size : (call + 1) * size] for kind, size in sizes.items()}


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Files below a folder, for MLflow to take."""
    for name, payload in files.items():
        path = folder / loggable_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)


def shortened(value: Any) -> str:
    """A parameter as MLflow takes it, without secrets; a longer one says how long it was."""
    from mlflow.utils import validation

    text, longest = redacted(str(value)), validation.MAX_PARAM_VAL_LENGTH
    if len(text) <= longest:
        return text
    told = f"... ({len(text):,} characters)"
    return text[: longest - len(told)] + told
