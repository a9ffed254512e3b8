import subprocess
import sys

_CHECK = """
from autonomic.cli.embedded.kubernetes.limits import check_inotify
from autonomic.seams.errors import Permanent
check_inotify(1)
try:
    check_inotify(3)
except Permanent as said:
    print(said)
"""


def test_a_machine_that_gives_too_few_inotify_instances_is_told_before_anything_starts() -> None:
    # a user namespace counts its own, so that nobody else lacks any
    script = 'echo 30 > /proc/sys/user/max_inotify_instances && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, sys.executable, _CHECK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 nodes needs 44 inotify instances, and 30 of" in done.stdout
    assert "sysctl -w fs.inotify.max_user_instances=" in done.stdout
