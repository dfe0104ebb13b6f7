"""Known contents: what this process has read and verified of sealed files, so that the same bytes are not decoded again.

Lives here: keeping it within a bound, forgetting what was least recently used. Does not live here: seals (`seals`), decoding
(`partition_codec`).

A run reads the same weeks for the matrix, the account, the controls and the signals, and asks the footers of all of them whether they are
current. The seal of a file is the SHA-256 of its other bytes and is compared with them at every read: what is found under it here was made
of these very bytes.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

# Enough for the weeks of years of some dozen symbols; of a market of hundreds a few are kept, the others are decoded as they are read.
MOST_BYTES = 64_000_000

# Larger ones would push out all others.
MOST_BYTES_OF_ONE = 4_000_000


class KnownContents:
    """Values by key, the least recently used forgotten first; safe in threads.

    Parameters
    ----------
    most_bytes, most_bytes_of_one : int
        Of all values together, and of one that is kept at all.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_bytes_of_one: int = MOST_BYTES_OF_ONE) -> None:
        self._most_bytes, self._most_bytes_of_one = most_bytes, most_bytes_of_one
        self._found: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """What is kept under a key, None if nothing is."""
        with self._lock:
            if key not in self._found:
                return None
            self._found.move_to_end(key)
            return self._found[key][0]

    def keep(self, key: Hashable, value: Any, n_bytes: int) -> None:
        """Keep a value that takes so many bytes; one that is too large is not kept."""
        if n_bytes > self._most_bytes_of_one:
            return
        with self._lock:
            self._n_bytes += n_bytes - self._found.pop(key, (None, 0))[1]
            self._found[key] = (value, n_bytes)
            while self._n_bytes > self._most_bytes:
                self._n_bytes -= self._found.popitem(last=False)[1][1]
