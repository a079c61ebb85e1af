"""The program, which says in the end what it has loaded of the packages that take long: ``python -m tests.pipelines.loading_program``."""

from __future__ import annotations

import sys

from pipelines.cli.main import main

HEAVY = ("torch", "mlflow", "onnxruntime", "sklearn")

if __name__ == "__main__":
    try:
        main()
    finally:
        print(f"loaded of {', '.join(HEAVY)}:", ", ".join(name for name in HEAVY if name in sys.modules) or "none", file=sys.stderr)
