"""The raw results: one JSON line a finished run, only ever added."""
import json
import os
from pathlib import Path

from runs import ROOT

FOLDER = ROOT / 'docs/results/growth/lines'


def append(path: Path, record: dict) -> None:
    """Adds a line that is whole on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and not path.read_bytes().endswith(b'\n') and path.stat().st_size > 0
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (b'\n' if torn else b'') + json.dumps(record).encode() + b'\n')
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[dict]:
    """The lines of a file, the last of each arm and seed; what a power cut left half written is passed over."""
    records = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            record = json.loads(line)
        except ValueError:
            print(f'warning: {path}:{number} is no whole line and is passed over', flush=True)
            continue
        records[record['arm'], record['seed']] = record
    return list(records.values())
