import shutil, sys, time
from pathlib import Path
from hf_pipelines_tests.arrival_script import ArrivalScript
from hf_pipelines_tests.landing import FOLLOWER, GROUPS, MARKET
from hf_pipelines_tests.checkout import make_checkout
from hf_pipelines_tests.sample_bars import REFERENCE
import yaml

def make_place(folder: Path, script: ArrivalScript):
    checkout = make_checkout(folder / "checkout", [FOLLOWER], data=folder / "data")
    markets = checkout.root / "hf_pipelines" / "defs" / "markets"
    shutil.rmtree(markets)
    attributes = {
        "name": MARKET,
        "universe": [{"symbol": each} for each in script.members],
        "benchmark": REFERENCE,
        "calendar": "XNYS",
        "timezone": "America/New_York",
        "source": {"type": "files", "uri": f"landing/{MARKET}"},
        "start": str(script.all_sessions[0]),
        "end": str(script.all_sessions[-1]),
        "feature_groups": list(GROUPS),
    }
    place = markets / MARKET / "defs.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(yaml.safe_dump({"type": "hf_pipelines.components.Market", "attributes": attributes}))
    return checkout

folder=Path(sys.argv[1]); weeks=int(sys.argv[2]); seed=int(sys.argv[3])
script=ArrivalScript(weeks,seed)
c=make_place(folder,script)
t=time.time()
done=c.run([sys.executable,"-m","hf_pipelines_tests.peaceful","--weeks",str(weeks),"--seed",str(seed),str(folder/"peaceful.jsonl")])
print(done.returncode,done.stdout[-2000:],done.stderr[-3000:],time.time()-t)
