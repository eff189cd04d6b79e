"""Run at the start of the servers that tests start: their workers do not give way to other
processes.

Else, on a machine that other tests keep busy, a worker would get next to nothing of the processor,
and its test wait for minutes. `tests/api/worker/test_worker.py` looks at workers as they are.
"""

import os


def _stay(*_: object) -> None:
    pass


os.nice = os.sched_setscheduler = _stay  # type: ignore[assignment]
