"""Following: the sensor that does what is left to be done after decisions on strategies.

Lives here: when. Does not live here: what (`resources.promotions.following`). Commands and the asset `promotion` do it themselves, at once;
this is for what died between two steps, and for servers that were away.

Dagster concept: sensor. It requests no runs. Its cursor holds, of each strategy, what was whole at the last look; a tick on which nothing
was decided lists names and reads nothing.
"""

import json
from hashlib import sha256

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.promotions.following import follow_history
from hf_pipelines.resources.promotions.history import (
    FOLDER,
    PromotionHistoryError,
    history_of,
    strategies_with_history,
)
from hf_pipelines.resources.storage_errors import StorageUnavailableError

# Four times as rarely as the sensors that make things: a minute.
TICKS_A_LOOK = 4


def promotions_sensor() -> dg.SensorDefinition:
    """Sensor `promotions`."""

    @dg.sensor(
        name="promotions",
        minimum_interval_seconds=TICKS_A_LOOK * settings.tick_seconds(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Does what follows from promotions, rollbacks and withdrawals where it was not done yet: payloads in the outbox and to "
            "HF_PORTFOLIO_URL, versions and aliases in MLflow."
        ),
    )
    def promotions(
        context: dg.SensorEvaluationContext, storage: Storage, clock: Clock, mlflow: MLflowTracking
    ) -> dg.SensorResult:
        whole: dict[str, str] = json.loads(context.cursor or "{}")
        store, told = storage.store(), []
        try:
            for strategy in strategies_with_history(store.objects):
                mark = _mark(len(store.objects.keys(f"{FOLDER}/{strategy}")), mlflow)
                if whole.get(strategy) == mark:
                    continue
                whole.pop(strategy, None)
                followed = follow_history(history_of(store.objects, strategy), store, mlflow, clock.now())
                told += [f"{strategy}: {line}" for line in (*followed.done, *followed.faults)]
                if followed.is_whole:
                    whole[strategy] = mark
                for fault in followed.faults:
                    context.log.warning(f"{strategy}: {fault}")
        except (StorageUnavailableError, PromotionHistoryError) as e:
            context.log.warning(str(e))
            told.append(str(e))
        # The daemon keeps what a tick says whole.
        summary = "; ".join(told)[:1000] or "nothing is left to be done"
        return dg.SensorResult(cursor=json.dumps(whole, sort_keys=True), skip_reason=dg.SkipReason(summary))

    return promotions


def _mark(n_decisions: int, mlflow: MLflowTracking) -> str:
    """Changes with another decision, and with other places to tell of it; their addresses are secrets."""
    told = json.dumps([n_decisions, settings.portfolio_url(), mlflow.tracking_uri()])
    return sha256(told.encode()).hexdigest()[:16]
