"""``python -m pipelines`` is the program ``ctr-kd``."""

from pipelines.cli.main import main

if __name__ == "__main__":
    main()
