"""A writer of the Kubernetes platform in a process of its own, to be killed.

    python kubernetes_writer.py SETTINGS.json

Each line of its input is `{"change": …, "fence": N}`, each line of its output the outcome; `{"ready": true}` comes first.
"""

import json
import sys
from pathlib import Path

from autonomic.platforms.kubernetes.platform import KubernetesPlatform
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import Retryable
from autonomic.seams.plan import Change


def main() -> None:
    platform = KubernetesPlatform(KubernetesSettings.model_validate_json(Path(sys.argv[1]).read_text()))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        while True:
            try:
                outcome = platform.apply(Change.model_validate(wanted["change"]), wanted["fence"])
                break
            except Retryable as away:
                print(away, file=sys.stderr)
        print(outcome.model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
