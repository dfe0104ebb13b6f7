"""Reader: a process of its own in which bytes of others are parsed.

Lives here: starting it, asking it, and its outcome in words. Does not live here: the parsers (`tables`, `answers`,
`lean`).

A parser that crashes, hangs or wants all the memory takes the reader with it, and is an error of the file that it read: the
next file gets a new reader. One reader serves a process as long as that lives: starting one costs half a second, a file of a
session a millisecond more than without. It inherits no variable that could hold a secret.
"""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
from atexit import register
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import polars as pl

from hf_pipelines.resources import settings
from hf_pipelines.resources.child_process import end_child, start_child
from hf_pipelines.resources.market_data.tables import RefusedTableError, parser_words

# A CSV of 4 GB takes a minute; nothing that is sound takes ten.
LONGEST_READ_S = 600.0
START_S = 120.0

READY = b"ready"

# What Python and its libraries need; keys and addresses of servers are not among them.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "POLARS_MAX_THREADS")

# What chooses the kernels and threads of linear algebra: with other ones a model predicts other last bits.
OF_ALGEBRA = ("OMP_", "OPENBLAS_", "MKL_", "BLIS_")

# Asked first to be ended where memory runs out on the machine.
LARGEST_OOM_SCORE = "1000"

_ONE_AT_A_TIME = Lock()
_READERS: dict[tuple[int, int], "Reader"] = {}


class Reader:
    """The process, and the way to it."""

    def __init__(self, memory_bytes: int) -> None:
        ours, theirs = Pipe()
        environment = {
            name: value for name, value in os.environ.items() if name in INHERITED or name.startswith(OF_ALGEBRA)
        }
        self.process = start_child(
            __name__,
            [str(theirs.fileno()), str(memory_bytes)],
            environment=environment,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            # A parser that aborts prints what it read.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self.connection = ours
        with self.ended_after(START_S):
            try:
                is_ready = ours.recv_bytes() == READY
            except (EOFError, OSError):
                is_ready = False
        if not is_ready:
            self.end()
            raise OSError(f"`{sys.executable}` must start the reader of files, ended with {self.process.returncode}.")

    def ended_after(self, timeout_s: float) -> "_Deadline":
        return _Deadline(self.process, timeout_s)

    def ask(
        self, parse: Callable[..., Any], payload: bytes, arguments: tuple[Any, ...]
    ) -> tuple[dict[str, Any], bytes]:
        """What the reader says, and the table's bytes."""
        self.connection.send_bytes(pickle.dumps((parse, arguments)))
        self.connection.send_bytes(payload)
        answer = json.loads(self.connection.recv_bytes())
        return answer, b"" if "fault" in answer else self.connection.recv_bytes()

    def end(self) -> int:
        """Stop it; returns how it ended."""
        self.connection.close()
        return end_child(self.process)


class _Deadline:
    """Ends a process that has not answered in time."""

    def __init__(self, process: "subprocess.Popen[bytes]", timeout_s: float) -> None:
        self.is_over = False
        self._process = process
        self._timer = Timer(timeout_s, self._end)
        self._timer.daemon = True

    def _end(self) -> None:
        self.is_over = True
        self._process.kill()

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def read_apart(parse: Callable[..., Any], payload: bytes, *arguments: Any) -> tuple[pl.DataFrame, str | None]:
    """What `parse(payload, *arguments)` gives, computed in the reader.

    Parameters
    ----------
    parse : function
        Of a module; gives a frame, or a frame and a text.

    Returns
    -------
    DataFrame
    str or None
        The text that `parse` gave with it.

    Raises
    ------
    RefusedTableError
        If the bytes are no table, or if reading them crashed the reader or took too long or too much.
    OSError
        If no reader can be started.
    """
    with _ONE_AT_A_TIME:
        key = (os.getpid(), settings.reader_memory_bytes())
        if key not in _READERS:
            _READERS[key] = Reader(key[1])
        reader = _READERS[key]
        with reader.ended_after(LONGEST_READ_S) as deadline:
            try:
                answer, table = reader.ask(parse, payload, arguments)
            except (EOFError, OSError) as e:
                del _READERS[key]
                raise RefusedTableError(_ending(reader.end(), deadline.is_over, key[1])) from e
    if "fault" in answer:
        raise RefusedTableError(answer["fault"])
    return pl.read_ipc_stream(table), answer["text"]


def _ending(code: int, is_late: bool, memory_bytes: int) -> str:
    if is_late:
        return f"reading it took longer than {LONGEST_READ_S:g} s"
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    return f"its parser crashed ({how}) or needed more memory than {memory_bytes:,} bytes (HF_READER_MEMORY_MB)"


@register
def _end_all() -> None:
    for (pid, _), reader in _READERS.items():
        if pid == os.getpid():
            reader.end()


def _serve(parent: Connection) -> None:
    """Answer until the connection is closed."""
    # Known before the first file is there, so that a broken installation is no error of a file.
    import pyarrow.parquet  # noqa: F401

    parent.send_bytes(READY)
    while True:
        try:
            # Written by our own other process.
            parse, arguments = pickle.loads(parent.recv_bytes())
            payload = parent.recv_bytes()
        except EOFError:
            return
        try:
            found = parse(payload, *arguments)
            frame, text = found if isinstance(found, tuple) else (found, None)
            table = io.BytesIO()
            frame.write_ipc_stream(table)
        except RefusedTableError as e:
            parent.send_bytes(json.dumps({"fault": str(e)}).encode())
        except (
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
            MemoryError,
            RecursionError,
            OSError,
            ValueError,
            TypeError,
            NotImplementedError,
        ) as e:
            parent.send_bytes(json.dumps({"fault": parser_words(e)}).encode())
        else:
            parent.send_bytes(json.dumps({"text": text}).encode())
            parent.send_bytes(table.getbuffer())


def _limit(memory_bytes: int) -> None:
    """Take no more memory than that, leave no dump of what was read, and be the first to go where memory runs out."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(LARGEST_OOM_SCORE)


if __name__ == "__main__":
    _limit(int(sys.argv[2]))
    with Connection(int(sys.argv[1])) as connection:
        _serve(connection)
