# SPDX-License-Identifier: Apache-2.0
"""Measure containers in machines of their own beside the same containers under runc or crun.

For 1, 4 and 16 pods at once: seconds from the command to the end of a program that ends at once,
and, as ratios, how much slower the sandbox is. Then the memory of one pod, and how much
slower its machine computes and reads files.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]
sys.path.insert(0, str(FOLDER))
from tests.node.runv.bundles import Runtime, configuration, missing  # noqa: E402

COUNT = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
READ = "for i in 1 2 3; do busybox cat /bin/busybox /bin/busybox > /dev/null; done"
RUNV = [sys.executable, "-m", "ensconce.node.runv"]


def run(command: list[str], root: Path, bundle: Path, name: str) -> float:
    """Run one container; return the seconds to its end."""
    start = time.perf_counter()
    words = [*command, f"--root={root}", "run", "--bundle", str(bundle), name]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603
    return time.perf_counter() - start


def together(command: list[str], runtime: Runtime, pods: int, config: dict[str, Any]) -> float:
    """Run containers at once; return the seconds until all have ended."""
    bundles = [runtime.bundle(config) for _ in range(pods)]
    root = runtime.folder / "roots"
    start = time.perf_counter()
    with ThreadPoolExecutor(pods) as pool:
        list(pool.map(lambda each: run(command, root, each, each.name), bundles))
    return time.perf_counter() - start


def memory(pid: int) -> int:
    """Return the proportional memory of a process and its children, in KiB."""
    total = 0
    for part in [pid, *children(pid)]:
        text = Path(f"/proc/{part}/smaps_rollup").read_text()
        total += int(text.split("Pss:")[1].split()[0])
    return total


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def main() -> None:
    """Measure and print a line of JSON for each case."""
    why = missing()
    peers = [each for each in ("runc", "crun", "runsc") if shutil.which(each)]
    if why or not peers:
        print(f"not measured: {why or 'no runc, crun or runsc to measure beside'}")
        return
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(Path(folder))
        together(RUNV, runtime, 1, configuration("sleep", "0"))  # makes kernel and agent
        peers = [each for each in peers if works(each, runtime)]
        cases = {"start": "sleep 0", "compute": COUNT, "read": READ}
        for name, script in cases.items():
            config = configuration("sh", "-c", script)
            for pods in (1, 4, 16) if name == "start" else (1,):
                ours = together(RUNV, runtime, pods, config)
                theirs = {each: together([each], runtime, pods, config) for each in peers}
                shown = {each: round(ours / took, 1) for each, took in theirs.items()}
                line = {"case": name, "pods": pods, "runv_seconds": round(ours, 2), "ratios": shown}
                print(json.dumps(line), flush=True)
        runtime.start("one", "sleep", "1000")
        print(json.dumps({"case": "memory", "runv_mib": memory(runtime.pid("one")) >> 10}))
        runtime.clean()


def works(peer: str, runtime: Runtime) -> bool:
    """Whether a peer runs on this host at all (crun 1.8 refuses hybrid control groups)."""
    try:
        together([peer], runtime, 1, configuration("sleep", "0"))
    except subprocess.CalledProcessError as error:
        print(f"{peer} does not run here: {error.stderr.decode(errors='replace').strip()}")
        return False
    return True


if __name__ == "__main__":
    main()
