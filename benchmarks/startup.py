"""Import time, load time and peak memory, each measured in fresh processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

IMPORT = "import time; t = time.perf_counter(); import cacher; print(time.perf_counter() - t)"

LOAD = """
import json, resource, sys, time
import cacher
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
model = cacher.load(sys.argv[1])
seconds = time.perf_counter() - started
state = model.state([7] * 512, config={"store_logits": "none"})
state.generate(1, temperature=0.0)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"load_s": seconds, "peak_bytes": (peak - before) * 1024,
                  "weight_bytes": model.info.weight_bytes, "kv_bytes": model.stats.kv_bytes}))
"""


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measure_startup(folder: Path, reps: int = 5) -> dict[str, float]:
    """Return medians of import_s, load_s (warm disk), peak, weight and KV bytes, peak_ratio."""
    import_s = statistics.median(float(_python(IMPORT)) for _ in range(reps))
    loads = [json.loads(_python(LOAD, str(folder))) for _ in range(reps)]
    result = {key: statistics.median(load[key] for load in loads) for key in loads[0]}
    result["import_s"] = import_s
    result["peak_ratio"] = result["peak_bytes"] / (result["weight_bytes"] + result["kv_bytes"])
    return result
