"""Writes to a store and a folder until it is killed; run by `test_killing.py`.

Arguments: folder of the files, URL of the database. Prints a line when some have been written.
"""

import io
import sys
from pathlib import Path

from reftune.server.database.store import Store
from reftune.server.files import UploadedFiles
from tests.server.filled import job_fields

CONTENT = b'{"messages": []}\n' * 1000


def write(store: Store, files: UploadedFiles) -> None:
    for number in range(1_000_000):
        file = files.add("ada", "tips.jsonl", "fine-tune", io.BytesIO(CONTENT), len(CONTENT))
        job = store.add_job("ada", **job_fields(file.id, trained_as=f"ft:{number}"))
        store.next_job()
        store.add_event(job.id, "info", "Step 1", {"train_loss": 0.5})
        store.finish_job(job.id, adapter=f"/a/{number}", trained_tokens=1, result={})
        if number % 2:
            files.delete("ada", file.id)
        if number == 2:
            sys.stdout.write("begun\n")
            sys.stdout.flush()


if __name__ == "__main__":
    store = Store(sys.argv[2])
    write(store, UploadedFiles(store, Path(sys.argv[1])))
