"""A program that makes versions champion in turn, and prints which of its changes the registry has noted."""

from __future__ import annotations

import sys

from pipelines.registry.registry import Registry

if __name__ == "__main__":
    uri, name, who, times = sys.argv[1:]
    registry = Registry(uri, name)
    for number in range(int(times)):
        why = f"{who} {number}"
        move = registry.promote(str(1 + number % 2), why=why)
        if move.before != move.after:
            print(why, flush=True)
