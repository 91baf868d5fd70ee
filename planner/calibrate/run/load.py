"""How much of a host's cores other programs use while something is measured."""

from __future__ import annotations

import os
import resource
from pathlib import Path

STAT = Path("/proc/stat")


class HostLoad:
    """Cores' time from its making on, as Linux counts it."""

    def __init__(self) -> None:
        self._start = self._read()

    def others(self) -> float:
        """Return the share of the cores' time that went to others than this process and its children."""
        now = self._read()
        if now is None or self._start is None:
            return 0.0
        busy, total, own = (after - before for after, before in zip(now, self._start, strict=True))
        return max(0.0, min(1.0, (busy - own) / total)) if total > 0.0 else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        try:
            words = STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]
        except OSError:
            return None
        ticks = [float(word) / os.sysconf("SC_CLK_TCK") for word in words]
        spent = sum(ticks)
        own = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(who)
            own += usage.ru_utime + usage.ru_stime
        return spent - ticks[3] - ticks[4], spent, own
