"""Put faults: the process that puts a given object into a store dies at a given point of it.

A put is a call of obstore, or on disk a file `<key>#<number>` that is written and then renamed to its key, or linked to it
where it may replace nothing.

A test names a folder in HF_TEST_FAULTS. Each file `<number>.json` in that is one fault, `{"key": <regular expression>,
"at": <point>, "kill": [<pid>, ...]}`: the process that reaches it takes it out, kills those processes and then itself,
and leaves the time in `died`. Up to that moment everything that runs is the real thing.

| point | the process dies |
|---|---|
| `before` | before the put |
| `during` | when half of the bytes are written (for a file to be renamed: half of what it is to replace) |
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
    import builtins
    import resource
    import signal

    import obstore

    put, opening, renaming, linking = obstore.put, builtins.open, Path.replace, os.link
    begun = {}

    def taken(key):
        for path in sorted(folder.glob("*.json")):
            fault = json.loads(path.read_text())
            if re.fullmatch(f"(?:.*/)?{fault['key']}", key):
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

    def begin(fault, n_bytes):
        if fault["at"] == "before":
            die(fault)
        elif fault["at"] == "during":
            kill_others(fault)
            # The kernel ends a process that writes more than it may, after exactly that many bytes.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes // 2, resource.RLIM_INFINITY))
        elif fault["at"] == "stop":
            (folder / "stopped").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)

    def end(fault):
        if fault["at"] == "after":
            die(fault)
        elif fault["at"] == "event":
            die_at_event(fault)

    def putting(store, key, payload, **options):
        fault = taken(key)
        begin(fault, len(payload))
        done = put(store, key, payload, **options)
        end(fault)
        return done

    def opening_to_rename(file, *arguments, **options):
        # Of the number before it a process has died.
        if isinstance(file, str) and re.search(r"#\d+$", file) and not os.path.exists(file):
            path = file.rpartition("#")[0]
            begun[path] = fault = taken(path)
            begin(fault, os.path.getsize(path) if fault["at"] == "during" else 0)
        return opening(file, *arguments, **options)

    def renaming_put(path, target):
        done = renaming(path, target)
        end(begun.pop(str(target), {"at": None}))
        return done

    def linking_put(path, target, **options):
        linking(path, target, **options)
        end(begun.pop(str(target), {"at": None}))

    def die_at_event(fault):
        from dagster import DagsterInstance

        handle = DagsterInstance.handle_new_event

        def handling(instance, event, **options):
            is_it = event.is_dagster_event and event.dagster_event_type.value == "ASSET_MATERIALIZATION"
            if is_it:
                die(fault)
            handle(instance, event, **options)

        DagsterInstance.handle_new_event = handling

    obstore.put, builtins.open, Path.replace, os.link = putting, opening_to_rename, renaming_put, linking_put
