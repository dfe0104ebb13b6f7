"""Promotion: may a configuration be believed enough to serve, and if not, why not.

Lives here: what must be known of it (`evidence`), the gates (`gates`) and their decision (`decision`). Not here: where the numbers come from
and what a promotion does; both are above this room.
"""

from hf_pipelines.research.promotion.decision import Decision, Judged, judge_gates
from hf_pipelines.research.promotion.evidence import Evidence
from hf_pipelines.research.promotion.gate import Gate, Threshold
from hf_pipelines.research.promotion.registry import GATES

__all__ = ["GATES", "Decision", "Evidence", "Gate", "Judged", "Threshold", "judge_gates"]
