"""Pure research code: frames and values in, frames and values out.

No Dagster, disk, network, environment, clock or global random state here; times and seeds are arguments.
"""
