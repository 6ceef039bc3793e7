"""Check that a wheel holds every file of the package, the bundled model among them."""

import sys
import zipfile
from pathlib import Path

wheel = Path(sys.argv[1])
present = set(zipfile.ZipFile(wheel).namelist())
wanted = {
    path.as_posix()
    for path in Path("reftune").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
wanted |= {"reftune/assets/tiny-chat/model.safetensors", "reftune/assets/emoji/train.jsonl"}
if missing := sorted(wanted - present):
    raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}")
print(f"{wheel.name}: all {len(wanted)} files, {wheel.stat().st_size / 2**20:.1f} MiB")
