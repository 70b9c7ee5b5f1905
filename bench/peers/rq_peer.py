"""RQ: two workers that end when the queue is empty, on jobs that do nothing.

    python rq_peer.py worker|simple REDIS_URL JOBS

"worker" is its default, with a process for each job; "simple" does them in its own. Prints one JSON object.
"""

import json
import subprocess
import sys
import time

from redis import Redis
from rq import Queue

WORKERS = 2
CLASSES = {"worker": "rq.Worker", "simple": "rq.SimpleWorker"}


def noop() -> None:
    """What every job does."""


def drain(kind: str, url: str, jobs: int) -> float:
    """Jobs a second in the middle of a full queue."""
    queue = Queue(connection=Redis.from_url(url))
    queue.empty()
    queue.enqueue_many([Queue.prepare_data("rq_peer.noop", result_ttl=0) for _ in range(jobs)])
    command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--quiet", "--url", url]
    command += ["--worker-class", CLASSES[kind]]
    workers = [subprocess.Popen(command) for _ in range(WORKERS)]
    try:
        first = until(queue, jobs * 0.9)
        last = until(queue, jobs * 0.1)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return (first[0] - last[0]) / (last[1] - first[1])


def until(queue: Queue, limit: float) -> tuple[int, float]:
    while len(queue) > limit:
        time.sleep(0.01)
    return len(queue), time.monotonic()


if __name__ == "__main__":
    print(json.dumps({"per_second": drain(sys.argv[1], sys.argv[2], int(sys.argv[3]))}))
