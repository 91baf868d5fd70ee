"""GPU links of an NCCL topology: pairs, switches, and targets that mean nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from planner.topology.importers.pci import bus_id, hexadecimal
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import Remark
from planner.topology.importers.xml import XmlElement

MOST_LINKS = 64
"""More links than any GPU has to one neighbour."""
_SWITCH, _HOST = 0x068000, 0x068001
"""PCI classes of an NVSwitch and of an NVLink bridge into a POWER CPU (NCCL ``topo.cc``)."""


class GpuLinks:
    """Collects the links that every GPU states, and compares the two directions of each.

    Attributes
    ----------
    pairs
        Links by pair of GPU names, in name order.
    to_switches
        Links to switches by GPU name.
    kind
        ``nvlink`` or ``xgmi``; ``None`` where none is named, not even one that is ignored.
    """

    def __init__(self, gpus: Mapping[str, str], source: str) -> None:
        self.gpus, self.source = gpus, source
        self.pairs: dict[tuple[str, str], int] = {}
        self.to_switches: dict[str, int] = {}
        self.remarks: list[Remark] = []
        self.kind: str | None = None
        self._stated: dict[tuple[str, str], int] = {}
        self._selfish: list[str] = []
        self._lines: dict[tuple[str, str], int] = {}

    def add(self, gpu: XmlElement, name: str, address: str | None) -> None:
        """Read the links below one GPU."""
        for child in gpu.children:
            if child.tag in ("nvlink", "xgmi"):
                self._add_link(child, name, address)
            elif child.tag not in ("c2c", "pci", "nic", "gpu"):
                self._note(child, f"<{child.tag}> is ignored here")

    def finish(self) -> None:
        """Compare the directions.

        Raises
        ------
        ImportRefusedError
            If the two ends of a pair count their links differently.
        """
        for (left, right), count in self._stated.items():
            back = self._stated.get((right, left))
            line = self._lines[left, right]
            if back is None:
                self.remarks.append(
                    Remark(
                        line,
                        f"{count} link(s) from {left} to {right}, but {right} states none; taken both ways",
                    )
                )
            elif back != count:
                raise ImportRefusedError(
                    self.source, line,
                    f"{count} link(s) from {left} to {right}, but {back} from {right} to {left} "
                    f"in line {self._lines[right, left]}",
                )  # fmt: skip
            self.pairs[min(left, right), max(left, right)] = count
        self._compare_counts()

    def _note(self, element: XmlElement, text: str) -> None:
        self.remarks.append(Remark(element.line, text))

    def _add_link(self, element: XmlElement, name: str, address: str | None) -> None:
        text = element.get("count") or ""
        count = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else 0
        if not 0 < count <= MOST_LINKS:
            raise ImportRefusedError(
                self.source, element.line, f"{name}: count {text[:20]!r} is no number of links"
            )
        if self.kind not in (None, element.tag):
            raise ImportRefusedError(
                self.source, element.line, f"links of kind {self.kind} and {element.tag}"
            )
        self.kind = element.tag
        raw = element.get("target") or ""
        target, kind = bus_id(raw), hexadecimal(element.get("tclass"))
        if kind in (_SWITCH, _HOST) and target not in self.gpus:
            self._add_other(element, name, count, kind)
        elif target is not None and target == address:
            self._note(element, f"{name}: {count} link(s) to itself are ignored")
            self._selfish.append(name)
        elif target is None or target not in self.gpus:
            self._note(
                element, f"{name}: {count} link(s) to {raw[:40]!r}, which is not in the file, are ignored"
            )
        elif (name, self.gpus[target]) in self._stated:
            raise ImportRefusedError(self.source, element.line, f"{name} states its links to {raw} twice")
        else:
            self._stated[name, self.gpus[target]] = count
            self._lines[name, self.gpus[target]] = element.line

    def _add_other(self, element: XmlElement, name: str, count: int, kind: int) -> None:
        if kind == _HOST:
            self._note(element, f"{name}: {count} link(s) into the CPU are left out")
            return
        self.to_switches[name] = self.to_switches.get(name, 0) + count

    def _compare_counts(self) -> None:
        if self._selfish and self.pairs:
            text = f"links of {', '.join(self._selfish)} lead to themselves, those of others to other GPUs"
            self.remarks.append(Remark(0, text))
        if self.to_switches and (
            len(set(self.to_switches.values())) > 1 or len(self.to_switches) < len(self.gpus)
        ):
            counts = ", ".join(f"{name} {self.to_switches.get(name, 0)}" for name in self.gpus.values())
            self.remarks.append(Remark(0, f"the GPUs have different numbers of links to switches: {counts}"))
