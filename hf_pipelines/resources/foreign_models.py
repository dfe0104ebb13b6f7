"""Foreign models: predictions of a model whose bytes no footer of ours vouches for.

Lives here: the process in which such bytes are parsed and asked. Does not live here: models of our store, whose sha256 is checked
before they are parsed (`components.strategy_stages.fitted_model`), formats (`research.learners`).

Libraries do not check what they parse: an edited number in a tree ends the process, or lets it walk in circles for ever. Here
that is an error about the bytes. An edited number that leads to no fault is not noticed: predictions of such bytes are only
as good as their origin.
"""

import signal
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import polars as pl

from hf_pipelines.research.learners import LearnerChoice, Setup, Task, build_pipeline, choose_learner, predict_frame
from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data.reader import Reader
from hf_pipelines.resources.market_data.tables import RefusedTableError

# A forest of a gigabyte takes half a minute.
LONGEST_PREDICTION_S = 120.0


class ForeignModels:
    """A process that predicts with models of others; a new one takes its place when a model ended it.

    Parameters
    ----------
    longest_s : float
        Seconds after which a model that does not answer is given up.
    """

    def __init__(self, longest_s: float = LONGEST_PREDICTION_S) -> None:
        self.longest_s = longest_s
        self._reader: Reader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def predict(
        self,
        data: bytes,
        choice: LearnerChoice,
        frame: pl.DataFrame,
        *,
        features: Sequence[str],
        classes: Sequence[str],
        missing: str = "drop",
    ) -> pl.DataFrame:
        """See `predict_frame`, of a model that is loaded from `data`.

        Parameters
        ----------
        data : bytes
            What `Pipeline.save` may have made.
        choice : LearnerChoice
            What it claims to be fitted of; an entry of the project.
        frame, features, classes, missing
            As `predict_frame` takes them.

        Raises
        ------
        ValueError
            If the bytes are no such model, or reading or asking it ended the process or took too long.
        """
        reader = self._reader = self._reader or Reader(settings.reader_memory_bytes())
        arguments = (choice.settings(), frame, list(features), list(classes), missing)
        with reader.ended_after(self.longest_s) as deadline:
            try:
                answer, table = reader.ask(_predict, data, arguments)
                fault = answer.get("fault")
            except (EOFError, OSError):
                code = self._end()
                how = signal.Signals(-code).name if code < 0 else f"status {code}"
                fault = (
                    f"it gave no answer in {self.longest_s:g} s"
                    if deadline.is_over
                    else f"the process that read it ended ({how})"
                )
        if fault is not None:
            raise ValueError(
                f"`data` must be a model of {choice.name!r}, was {len(data)} bytes: {fault}; do not load it."
            )
        return pl.read_ipc_stream(table)

    def _end(self) -> int:
        reader, self._reader = self._reader, None
        return 0 if reader is None else reader.end()


def _predict(
    data: bytes,
    fitted_of: dict[str, Any],
    frame: pl.DataFrame,
    features: Sequence[str],
    classes: Sequence[str],
    missing: str,
) -> pl.DataFrame:
    task: Task = "classification" if classes else "regression"
    choice = choose_learner(
        fitted_of["type"],
        fitted_of["params"],
        preprocessing=fitted_of.get("preprocessing", ()),
        calibration=fitted_of.get("calibration"),
    )
    try:
        pipeline = build_pipeline(choice, Setup(task)).load(data)
        found = predict_frame(pipeline, frame, features=features, classes=classes, missing=missing)
    except Exception as e:  # noqa: BLE001  Libraries raise anything about bytes that they did not write.
        words = " ".join(str(e).split())[:200]
        raise RefusedTableError(f"{type(e).__name__}: {words}") from e
    return found
