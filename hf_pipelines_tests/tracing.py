"""Tracing: which functions of `research` a stage calls while it computes, and whether its code version knows of them.

Lives here: the trace, and the comparison. Does not live here: what is in a version (`components.code_version`).
"""

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import hf_pipelines.research
from hf_pipelines.components.source_races import compute_settled
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.strategy_stages import trial_records
from hf_pipelines.resources.trial_ledger import OpenTrial
from hf_pipelines.resources.trial_ledger.returns import session_returns

# Modules of pictures, messages, the guard, and the hash by which whatever is read of the store is verified.
NO_CONTENT = (
    *("plots.py", "score_plots.py", "content_hash.py"),
    *("signs.py", "score_words.py", "wording.py", "replay.py"),
)

# Folder of the modules that draw.
PICTURES = "plots"

# What the ledger of trials notes of a computation: nothing of it is content.
NOTED = ""
RECORDING = {each.__code__ for each in (trial_records.settings_of, session_returns, OpenTrial.end)}

# Of a kernel that is not compiled yet, or called from Python: what it computes is a function of its own.
OF_THE_COMPILER = (
    *("LazyKernel.dispatcher", "LazyKernel.__call__", "LazyKernel._numba_type_"),
    *("_called_files", "_stamp_with_called"),
)


@contextmanager
def traced() -> Iterator[dict[str, set[CodeType]]]:
    """The functions of `research` that are called while each stage computes, by asset."""
    called: dict[str, set[CodeType]] = {}
    under_way: list[str] = []
    research = str(Path(hf_pipelines.research.__file__).parent)

    def follow(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code is compute_settled.__code__ and event in ("call", "return"):
            if event == "call":
                under_way.append(frame.f_locals["stage"].asset)
            else:
                under_way.pop()
        elif code in RECORDING and event in ("call", "return"):
            if event == "call":
                under_way.append(NOTED)
            else:
                under_way.pop()
        elif event == "call" and under_way and under_way[-1] != NOTED and code.co_filename.startswith(research):
            called.setdefault(under_way[-1], set()).add(code)

    before = sys.getprofile()
    sys.setprofile(follow)
    threading.setprofile(follow)
    try:
        yield called
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def unseen(called: Mapping[str, set[CodeType]], stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """Functions that stages called and their versions do not know of, by asset."""
    found = {
        asset: sorted(
            f"{Path(code.co_filename).stem}.{code.co_qualname}"
            for code in called[asset] - stages[asset].code_version.codes
            # Written by a dataclass, a part of the function or module around it, or of pictures, messages, the guard and the
            # compiler of a kernel, which the first test of a process meets: no content.
            if not code.co_filename.startswith("<")
            and Path(code.co_filename).name not in NO_CONTENT
            and Path(code.co_filename).parent.name != PICTURES
            and code.co_qualname not in OF_THE_COMPILER
            and not re.search(r"<(listcomp|genexpr|dictcomp|setcomp|lambda|module)>$|<locals>", code.co_qualname)
        )
        for asset in stages
    }
    return {asset: names for asset, names in found.items() if names}
