"""How the process of a model server ends."""

import logging
import os
import sys
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """Ends this process at once with `code`; what was printed and logged is written before.

    An orderly exit waits for every thread that computes, and a model that hangs never returns.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
