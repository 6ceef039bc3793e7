"""Trains jobs until it is killed; run by `test_worker_stopping.py`.

Arguments: folder of the state, number of jobs. Prints a line when the first of them has ended.
"""

import sys
from pathlib import Path

from tests.server.trained import Desk, examples, new_engine

if __name__ == "__main__":
    engine = new_engine()
    engine.start()
    desk = Desk(engine, Path(sys.argv[1]))
    jobs = [
        desk.add(examples(3), f"ft:{number}", hyperparameters={"n_epochs": 3 + 3 * number})
        for number in range(int(sys.argv[2]))
    ]
    desk.worker.begin()
    desk.over(jobs[0])
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    desk.worker.join()
