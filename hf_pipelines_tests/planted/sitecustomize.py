"""Planted fault: the process that puts a given object into a store dies at a given point of it.

Python imports a module of this name when it starts. A test puts this folder on PYTHONPATH and names a folder in
HF_TEST_FAULTS. Each file `<number>.json` in that is one fault, `{"key": <regular expression>, "at": <point>, "kill":
[<pid>, ...]}`: the process that reaches it takes it out, kills those processes and then itself, and leaves the time in
`died`. Up to that moment everything that runs is the real thing.

| point | the process dies |
|---|---|
| `before` | before the put |
| `during` | when half of the bytes are written |
| `after` | right after the put |
| `event` | when it is about to record the materialisation |
| `stop` | it stops before the put, with its number in `stopped`, until somebody continues it |
"""

import json
import os
import re
import time
from pathlib import Path


def plant(folder: Path) -> None:
    import resource
    import signal

    import obstore

    put = obstore.put

    def taken(key):
        for path in sorted(folder.glob("*.json")):
            fault = json.loads(path.read_text())
            if re.fullmatch(fault["key"], key):
                path.unlink()
                return fault
        return {"at": None}

    def kill_others(fault):
        (folder / "died").write_text(str(time.time()))
        for pid in fault["kill"]:
            os.kill(pid, signal.SIGKILL)

    def die(fault):
        kill_others(fault)
        os.kill(os.getpid(), signal.SIGKILL)

    def putting(store, key, payload, **options):
        fault = taken(key)
        if fault["at"] == "before":
            die(fault)
        elif fault["at"] == "during":
            kill_others(fault)
            # The kernel ends a process that writes more than it may, after exactly that many bytes.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(payload) // 2, resource.RLIM_INFINITY))
        elif fault["at"] == "stop":
            (folder / "stopped").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        done = put(store, key, payload, **options)
        if fault["at"] == "after":
            die(fault)
        elif fault["at"] == "event":
            die_at_event(fault)
        return done

    def die_at_event(fault):
        from dagster import DagsterInstance

        handle = DagsterInstance.handle_new_event

        def handling(instance, event, **options):
            is_it = event.is_dagster_event and event.dagster_event_type.value == "ASSET_MATERIALIZATION"
            if is_it:
                die(fault)
            handle(instance, event, **options)

        DagsterInstance.handle_new_event = handling

    obstore.put = putting


if "HF_TEST_FAULTS" in os.environ:
    plant(Path(os.environ["HF_TEST_FAULTS"]))
