"""Requirements: several conditions that are judged together.

Lives here: naming all that is missing at once, since each by itself would be mended in vain. Does not live here: what is
required (`settings`, `parquet_io_manager`).
"""

from collections.abc import Callable
from typing import Any


def require_all(*requirements: Callable[[], Any]) -> list[Any]:
    """What several requirements give.

    Raises
    ------
    ValueError
        A line for each that refused, the same line once.
    """
    found, faults = [], []
    for require in requirements:
        try:
            found.append(require())
        except ValueError as e:
            faults.append(str(e))
    if faults:
        raise ValueError("\n".join(dict.fromkeys(faults)))
    return found
