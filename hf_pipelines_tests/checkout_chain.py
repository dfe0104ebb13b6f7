"""The chain of a checkout in one process: `python -m hf_pipelines_tests.checkout_chain <strategy>...`.

Prints one JSON object: content hash by `<asset>/<partition>` of everything stored.
"""

import json
import sys

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines_tests.checkout import DAY, FIRST_BARS, FIRST_FEATURES, GROUPS, RETRAINED, WEEK


def main(strategies: list[str]) -> None:
    pipeline = Pipeline.open()
    pipeline.materialise(["us_tech/bars"], FIRST_BARS, WEEK)
    pipeline.materialise([f"us_tech/features/{group}" for group in GROUPS], FIRST_FEATURES, WEEK)
    for strategy in strategies:
        pipeline.materialise([f"{strategy}/{stage}" for stage in RETRAINED], WEEK, WEEK)
        pipeline.materialise([f"{strategy}/signals"], DAY, DAY)
    store = pipeline.store
    hashes = {
        f"{asset}/{key}": store.read(asset, key).footer.content_hash
        for asset in pipeline.assets()
        for key in store.partitions(asset)
    }
    print(json.dumps(hashes))


if __name__ == "__main__":
    main(sys.argv[1:])
