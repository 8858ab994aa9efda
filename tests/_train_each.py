"""Train several configurations one after the other: a script that test_every_config.py starts as one process or as two.

`_train_each.py PLAN.json`, the plan being a list of {"config": YAML, "run_dir": DIR, "port": N}. Every rank writes
RUN_DIR/exit-R.json with its exit code and what it said. One start serves all configurations, to save the imports.
"""

import contextlib
import gc
import io
import json
import os
import sys
import traceback
from pathlib import Path

from accelerate.state import AcceleratorState

from launch import train


def main(plan: Path) -> None:
    """Run the plan; a configuration that fails does not keep the next from its turn."""
    rank = os.environ.get("RANK", "0")
    # every configuration forms a world of its own; the agent's store would still know the last one
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    for item in json.loads(plan.read_text()):
        os.environ["MASTER_PORT"] = str(item["port"])
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = train.main(["--config", item["config"], "--run-dir", item["run_dir"]])
            except Exception:
                traceback.print_exc()
                code = -1
        AcceleratorState._reset_state(True)
        gc.collect()  # a pipeline and its hooks refer to each other
        file = Path(item["run_dir"]) / f"exit-{rank}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"code": code, "said": said.getvalue()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
