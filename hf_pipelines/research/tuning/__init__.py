"""Tuning: choosing parameters by a study that can be repeated to the bit.

Lives here, a module each: the space, samplers, trials as plain values, the study, which trial is used. Does not live here: where trials run
and are kept (`resources`), the asset (`components`).
"""

from hf_pipelines.research.tuning.picking import PICKS, Pick
from hf_pipelines.research.tuning.presets import PRESETS
from hf_pipelines.research.tuning.samplers import SAMPLERS
from hf_pipelines.research.tuning.space import Point, Space, default_space, read_space
from hf_pipelines.research.tuning.study import Budget, Design, Study, run_study
from hf_pipelines.research.tuning.trials import (
    COMPLETED,
    FAILED,
    PRUNED,
    Evaluate,
    Goal,
    Journal,
    KeptJournal,
    MapTrials,
    MemoryJournal,
    Outcome,
    Task,
    Trial,
    one_by_one,
)

__all__ = [
    "COMPLETED",
    "FAILED",
    "PICKS",
    "PRESETS",
    "PRUNED",
    "SAMPLERS",
    "Budget",
    "Design",
    "Evaluate",
    "Goal",
    "Journal",
    "KeptJournal",
    "MapTrials",
    "MemoryJournal",
    "Outcome",
    "Pick",
    "Point",
    "Space",
    "Study",
    "Task",
    "Trial",
    "default_space",
    "one_by_one",
    "read_space",
    "run_study",
]
