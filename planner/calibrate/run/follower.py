"""A process that obeys rank 0: ``python -m planner.calibrate.run.follower cpu|cuda RANK SIZE PORT``."""

from __future__ import annotations

import sys
from typing import cast

from planner.calibrate.run.backend import DeviceKind, backend_for
from planner.calibrate.run.team import follow


def main() -> None:
    """Take the place that the command line names."""
    kind, rank, size, port = sys.argv[1:5]
    backend = backend_for(cast("DeviceKind", kind), index=int(rank) if kind == "cuda" else 0)
    try:
        follow(backend, int(rank), int(size), int(port))
    except RuntimeError:  # rank 0 is gone; it has said why
        sys.exit(1)


if __name__ == "__main__":
    main()
