"""Tuning commands: what `hfp tuning watch` and `hfp tuning ui` do.

Lives here: their words. Does not live here: studies where they are seen (`resources.shown_studies`), the command line (`cli`).
"""

import time
from collections.abc import Callable
from importlib.util import find_spec

from hf_pipelines.resources.shown_studies import Progress, latest_study, none_here, open_studies, read_progress

# A new line appears at the latest after this.
LOOK_S = 2.0

# Without a word from a study for so long it is said.
SILENT_S = 120.0


def watch_study(strategy: str, week: str | None, say: Callable[[str], object], *, once: bool = False) -> int:
    """Say how far the latest study of a strategy is, a line whenever that changes, until it ends.

    Raises
    ------
    ValueError
        If there is no study.
    """
    storage, last = open_studies(strategy), ""
    while True:
        # Looked for each time: another run may have begun a later study.
        name = latest_study(storage, strategy, week)
        if name is None:
            raise ValueError(none_here(strategy, week))
        found = read_progress(storage, name)
        if (line := progress_line(found)) != last:
            say(line)
            last = line
        if once or found.ended or found.n_done >= found.n_asked:
            return 0
        time.sleep(LOOK_S)


def progress_line(found: Progress) -> str:
    """Such as "tech_direction/2013-02-24/1f3a9c00: 12 of 100 trials, 2 running, 1 failed; best accuracy 0.5312; about 3 min left"."""
    told = [f"{found.n_done} of {found.n_asked} trials"]
    told += [f"{found.n_running} running"] if found.n_running and not found.ended else []
    told += [f"{found.n_failed} failed"] if found.n_failed else []
    best = ", ".join(f"{name} {value:.6g}" for name, value in zip(found.goals, found.best, strict=False))
    parts = [", ".join(told), f"best {best}" if best else "none completed yet"]
    if found.ended:
        parts.append(found.ended)
    elif found.n_done < found.n_asked and found.left_s is not None:
        parts.append(f"about {duration(found.left_s)} left")
    if not found.ended and found.silent_s > SILENT_S:
        parts.append(
            f"silent for {duration(found.silent_s - found.silent_s % SILENT_S)}: its run may be dead, see hfp status"
        )
    return f"{found.name}: {'; '.join(parts)}"


def duration(seconds: float) -> str:
    """Such as 40 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def serve_dashboard(strategy: str, port: int, say: Callable[[str], object]) -> None:
    """Optuna's dashboard over the studies of a strategy, on 127.0.0.1, until it is interrupted.

    Raises
    ------
    ValueError
        If it is not installed, or there is no study.
    """
    if find_spec("optuna_dashboard") is None:
        raise ValueError(
            'Optuna\'s dashboard must be installed, was not; install the extra: pip install "hf_pipelines[tuning]".'
        )
    from optuna_dashboard import run_server

    storage = open_studies(strategy)
    if latest_study(storage, strategy) is None:
        raise ValueError(
            f"`strategy` must have a study, {strategy} has none here; materialise {strategy}/tuning first."
        )
    say(
        f"studies of {strategy}: http://127.0.0.1:{port} (it can change what it shows, never a stored study; Ctrl-C ends it)"
    )
    run_server(storage, host="127.0.0.1", port=port)
