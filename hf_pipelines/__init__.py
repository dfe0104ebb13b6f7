"""hf_pipelines: orchestrated quant research that can be trusted.

Lives here: what every process of it begins with. Does not live here: anything that is imported by name.
"""

import gc

# Every command, server and run begins with seconds of imports, whose objects all stay: looking for garbage after each
# 700 of them is a sixth of that time.
gc.set_threshold(20_000, 20, 20)
