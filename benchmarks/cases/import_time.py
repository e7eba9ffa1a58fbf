"""How long ``import <library>.tune`` takes, a bare interpreter subtracted."""

from __future__ import annotations

import subprocess
import sys
import time

from common import library, p50, tell

ROUNDS = 15


def seconds(code: str) -> float:
    """Wall time of one interpreter that runs ``code``."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    code = f"import {library()}.tune"
    seconds(code)  # byte code is compiled once, not each time
    pairs = [(seconds("pass"), seconds(code)) for _ in range(ROUNDS)]
    tell(import_s=p50([loaded - bare for bare, loaded in pairs]))


main()
