"""Clock: the only place that reads the wall clock.

Lives here: `now`, as a resource, so that a test can set it. Does not live here: sessions (`partitions`).
"""

from datetime import UTC, datetime
from typing import Any

import dagster as dg


class Clock(dg.ConfigurableResource[Any]):
    """Wall clock, or a fixed instant.

    Parameters
    ----------
    fixed : str or None
        ISO 8601 with an offset; None for the wall clock.
    """

    fixed: str | None = None

    def now(self) -> datetime:
        """Current time, UTC."""
        if self.fixed is None:
            return datetime.now(UTC)
        instant = datetime.fromisoformat(self.fixed)
        if instant.tzinfo is None:
            raise ValueError(f"`fixed` must carry an offset such as +00:00, was {self.fixed!r}.")
        return instant.astimezone(UTC)
