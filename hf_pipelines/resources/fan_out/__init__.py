"""Fan-out: where the tasks of a study, a sweep or a cross-validation run: threads, processes, or a Ray cluster.

Lives here: the backends, chosen by the environment. Does not live here: the contract (`research.fan_out`), and what is mapped.

Whatever the backend, results are those of a plain loop, to the bit: a call takes the threads that it is given, frames keep the pieces that
their columns lie in, and every worker runs the same code.
"""

from hf_pipelines.resources.fan_out.opening import open_fan_out

__all__ = ["open_fan_out"]
