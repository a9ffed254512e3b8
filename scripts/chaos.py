"""Runs what is left to chance many times: faults at random moments (tests/chaos) and property tests with a thousand examples.

    scripts/chaos.py 1-5

Each file of tests/chaos runs with each of the seeds, as do the statistical tests of MNIST and the property tests. What has
passed is noted in reports/chaos.txt and left out the next time, so that an interrupted run goes on; `rm reports/chaos.txt`
begins anew. What failed is shown with the command that repeats it. Ends with 0 where everything passed, else with 1.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTED = ROOT / "reports" / "chaos.txt"
PROPERTIES = ("tests/unit", "tests/integration/monitor/test_abuse.py")


def seeds(text: str) -> range:
    """`3` is one seed, `1-5` are five."""
    first, _, last = text.partition("-")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        sys.exit(f"chaos: {text!r} are no seeds; write 3, or 1-5")


def commands(seed: int) -> dict[str, list[str]]:
    """What runs with a seed, by the name under which it is noted."""
    pytest = [".venv/bin/pytest", "-q", "-rA", "--timeout=3600"]
    files = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "tests" / "chaos").glob("test_*.py"))
    drawn = ["-m", "hypothesis", "--hypothesis-profile=chaos", f"--hypothesis-seed={seed}"]
    return {
        **{f"{seed} {file}": [*pytest, file] for file in files},
        f"{seed} statistics": [*pytest, "tests/integration/mnist"],
        f"{seed} properties": [*pytest, *drawn, *PROPERTIES],
    }


def main() -> int:
    """Runs what has not passed yet; returns the exit code."""
    failed: list[str] = []
    NOTED.parent.mkdir(exist_ok=True)
    passed = set(NOTED.read_text().splitlines()) if NOTED.exists() else set[str]()
    for seed in seeds(sys.argv[1] if len(sys.argv) > 1 else "1-5"):
        for name, command in commands(seed).items():
            if name in passed:
                print(f"chaos: {name} has passed before", flush=True)
                continue
            began = time.monotonic()
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "AUTONOMIC_CHAOS_SEED": str(seed)}, check=False)
            print(f"chaos: {name} {'failed' if done.returncode else 'passed'} in {time.monotonic() - began:.0f} s", flush=True)
            if done.returncode:
                failed.append(f"AUTONOMIC_CHAOS_SEED={seed} {shlex.join(command)}")
            else:
                with NOTED.open("a") as noted:
                    noted.write(f"{name}\n")
    print("\n".join(["chaos: these failed, and are repeated by:", *failed]) if failed else "chaos: everything passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
