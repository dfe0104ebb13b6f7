"""Machine: what processor and memory this process may take, in a container too.

Lives here: the two figures. Does not live here: who takes how much of it (`fan_out`), when little is an alarm (`pulse`).
"""

from pathlib import Path

Cgroup = tuple[str, str, str, str]
CGROUPS: tuple[Cgroup, ...] = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cores_given() -> int:
    """Cores that this process may use: by its affinity and the quota of its container; a part of a core counts as one."""
    from joblib import cpu_count

    return int(cpu_count())


def memory_left() -> int:
    """Bytes that may still be taken: of the machine, and of the container where it has a limit."""
    import psutil

    left = [int(psutil.virtual_memory().available)]
    for folder, limit, usage, cache in CGROUPS:
        try:
            most, taken = (Path(folder, name).read_text().strip() for name in (limit, usage))
            lines = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
        except OSError:
            # Not this version, or no container.
            continue
        if most.isdecimal():
            left.append(int(most) - int(taken) + int(lines.get(cache, 0)))
    return min(left)
