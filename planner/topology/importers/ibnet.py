"""The fabric that ``ibnetdiscover`` prints: switches, channel adapters, and the cables between ports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import FabricView, Remark
from planner.topology.importers.words import has_long_number

FORMAT = "ibnetdiscover"
LANE_RATES = {
    "SDR": 0.25e9,
    "DDR": 0.5e9,
    "QDR": 1.0e9,
    "FDR10": 1.25e9,
    "FDR": 1.70455e9,
    "EDR": 3.125e9,
    "HDR": 6.25e9,
    "NDR": 12.5e9,
    "XDR": 25.0e9,
}
"""Data rate of one lane by speed, bytes/s (InfiniBand Architecture Specification, volume 2; after coding)."""
WIDTHS = frozenset({1, 2, 4, 8, 12})
"""Lanes that a port may have (InfiniBand Architecture Specification, volume 2)."""
_AGGREGATION = "aggregation node"
_DEVICE = re.compile(r'(Switch|Ca|Hca|Rt)\s+([0-9]{1,4})\s+"([SHR]-[0-9a-fA-F]{1,16})"\s*(?:#\s*(.*))?')
_PORT = re.compile(
    r"\[([0-9]{1,4})\](?:\[ext [0-9]+\])?(?:\(([0-9a-fA-F]{1,16})\))?\s+"
    r'"([SHR]-[0-9a-fA-F]{1,16})"\[([0-9]{1,4})\](?:\[ext [0-9]+\])?(?:\(([0-9a-fA-F]{1,16})\))?\s*'
    r"(?:#\s*(.*))?"
)
_HEADER = re.compile(
    r"(vendid|devid|sysimgguid|switchguid|caguid|hcaguid|rtguid)=\S*"
    r"|(Chassis|Spine|Line|Hosts|Non-Chassis)\b.*"  # headings of ibnetdiscover -g
)
_RATE = re.compile(r"(?:^|\s)([0-9]{1,2})x([A-Z]{3}[0-9]{0,2})\s*$")
_QUOTED = re.compile(r'"([^"]*)"')
_LETTER = {"Switch": "S", "Ca": "H", "Hca": "H", "Rt": "R"}
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_UNNAMED = re.compile(r"HCA-?[0-9]*|.*ConnectX.*|MT[0-9]+.*", re.IGNORECASE)


@dataclass(frozen=True)
class IbView(FabricView):
    """A fabric of InfiniBand; ``links`` join switches and adapters, ``nodes`` are the hosts.

    Attributes
    ----------
    adapters
        Host of every channel adapter; None where its description does not tell. Aggregation nodes inside
        switches are no adapters of hosts and are not here.
    aggregation
        Aggregation nodes inside switches.
    descriptions
        What the fabric calls every switch and adapter.
    port_rates
        Port lines of switches, by width and speed as printed.
    """

    adapters: Mapping[str, str | None] = field(default_factory=dict)
    aggregation: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    port_rates: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Cable:
    """What one port line says."""

    line: int
    rate: str | None
    far: str


def read_ibnetdiscover(text: str, name: str) -> IbView:
    """Read a whole listing; every cable is counted once, though both of its ends are listed.

    Raises
    ------
    ImportRefusedError
        If a line is none that the program prints, a device or port is listed twice, or the two ends of a
        cable disagree.
    """
    reader = _Reader(name)
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        reader.take(number, raw.strip())
    return reader.view()


class _Reader:
    """Takes the lines one by one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.devices: dict[str, int] = {}
        self.descriptions: dict[str, str] = {}
        self.ports_of: dict[str, int] = {}
        self.cables: dict[tuple[str, int], tuple[tuple[str, int], _Cable]] = {}
        self.far_ends: dict[tuple[str, int], tuple[str, int]] = {}
        self.missing: dict[str, int] = {}
        self.remarks: list[Remark] = []
        self.port_rates: dict[str, int] = {}
        self._current = ""

    def take(self, number: int, line: str) -> None:
        """Take one line."""
        if not line or line.startswith("#") or _HEADER.fullmatch(line):
            if not line:
                self._current = ""
            return
        if line.startswith("["):
            self._port(number, line)
            return
        match = _DEVICE.fullmatch(line)
        if match is None:
            raise self._refused(number, f"{line[:60]!r} is no line of ibnetdiscover")
        kind, ports, device, tail = match.groups()
        if not device.startswith(_LETTER[kind]):
            raise self._refused(number, f"{kind} {device!r} does not have the name of one")
        if device in self.devices:
            raise self._refused(number, f"{device} is listed in line {self.devices[device]} already")
        self.devices[device], self._current = number, device
        self.ports_of[device] = int(ports)
        self._describe(device, tail, number)

    def _describe(self, device: str, tail: str | None, number: int) -> None:
        quoted = _QUOTED.search(tail or "")
        if quoted is None:
            self._note(number, f"{device} has no description")
            return
        if (tail or "").count('"') != 2:
            self._note(number, f"the description of {device} holds quotation marks")
        if has_long_number(quoted[1]):
            self._note(number, f"{device} calls itself {quoted[1][:60]!r}")
        self.descriptions[device] = quoted[1]

    def _port(self, number: int, line: str) -> None:
        match = _PORT.fullmatch(line)
        if match is None:
            raise self._refused(number, f"{line[:60]!r} is no port line; the file may be cut")
        if not self._current:
            raise self._refused(number, "a port of no device")
        near_port, _, far, far_port, _, tail = match.groups()
        near, peer = (self._current, int(near_port)), (far, int(far_port))
        if near in self.cables:
            raise self._refused(number, f"port {near_port} of {self._current} is listed twice")
        if not 0 < near[1] <= self.ports_of[self._current]:
            raise self._refused(number, f"{self._current} has {self.ports_of[self._current]} ports")
        if near == peer or near[0] == peer[0]:
            raise self._refused(number, f"a cable from {self._current} to itself")
        rate = self._rate(tail or "", number)
        quoted = _QUOTED.findall(tail or "")
        self.cables[near] = (peer, _Cable(number, rate, quoted[-1] if quoted else ""))
        if self._current.startswith("S-") and rate is not None:
            self.port_rates[rate] = self.port_rates.get(rate, 0) + 1

    def _rate(self, tail: str, number: int) -> str | None:
        match = _RATE.search(tail)
        if match is None or match[2] not in LANE_RATES or int(match[1]) not in WIDTHS:
            self._note(number, "width and speed of the cable are unknown")
            return None
        return f"{match[1]}x{match[2]}"

    def view(self) -> IbView:
        """Return the fabric that was read."""
        if not self.devices:
            raise self._refused(0, "no switch and no channel adapter")
        self._compare_descriptions()
        links = self._links()
        self.devices |= self.missing
        if not links:
            self._note(0, "no cable at all: the fabric could not be explored")
        aggregation = [one for one in self._adapters() if self._is_aggregation(one)]
        adapters = {one: self._host(one) for one in self._adapters() if one not in set(aggregation)}
        routers = [device for device in self.devices if device.startswith("R-")]
        if routers:
            self._note(self.devices[routers[0]], f"{len(routers)} routers are left out")
        nameless = [one for one, host in adapters.items() if host is None]
        if nameless:
            text = f"the host of {len(nameless)} adapters is unknown, {nameless[0]} first"
            self._note(self.devices[nameless[0]], text)
        return IbView(
            FORMAT,
            tuple(device for device in self.devices if device.startswith("S-")),
            tuple(dict.fromkeys(host for host in adapters.values() if host is not None)),
            links=links,
            remarks=tuple(sorted(self.remarks, key=lambda remark: remark.line)),
            adapters=adapters,
            aggregation=tuple(aggregation),
            descriptions=self.descriptions,
            port_rates=self.port_rates,
        )

    def _compare_descriptions(self) -> None:
        """Remark devices that are called one thing in their own line and another at a port."""
        for (near, port), (far, cable) in self.cables.items():
            known = self.descriptions.get(far[0])
            if known is not None and near.startswith("S-") and cable.far != known:
                text = f"port {port} of {near} leads to {cable.far[:60]!r}, which calls itself {known[:60]!r}"
                self._note(cable.line, text)

    def _adapters(self) -> list[str]:
        return [device for device in self.devices if device.startswith("H-")]

    def _is_aggregation(self, device: str) -> bool:
        return _AGGREGATION in self.descriptions.get(device, "").lower()

    def _host(self, device: str) -> str | None:
        """Return the first word of a description such as ``node-7 mlx5_0``, unless it names a product."""
        words = self.descriptions.get(device, "").split()
        if (
            len(words) < 2
            or _UNNAMED.fullmatch(words[0])
            or not _HOST.fullmatch(words[0])
            or has_long_number(words[0])
        ):
            return None
        return words[0]

    def _links(self) -> tuple[tuple[str, str, float | None], ...]:
        """Return every cable once, after comparing what its two ends say."""
        links: list[tuple[str, str, float | None]] = []
        for near, (far, cable) in self.cables.items():
            back = self.cables.get(far)
            if back is None:
                self._check_lone_end(near, far, cable)
            elif back[0] != near:
                other = f"port {back[0][1]} of {back[0][0]} in line {back[1].line}"
                raise self._refused(cable.line, f"port {far[1]} of {far[0]} leads to {other}")
            elif back[1].line < cable.line:
                if back[1].rate != cable.rate:
                    text = f"the cable runs at {cable.rate} here and at {back[1].rate} in line {back[1].line}"
                    raise self._refused(cable.line, text)
                continue
            if not (near[0].startswith("R-") or far[0].startswith("R-")):
                links.append((near[0], far[0], rate_of(cable.rate)))
        return tuple(links)

    def _check_lone_end(self, near: tuple[str, int], far: tuple[str, int], cable: _Cable) -> None:
        device, port = far
        if self.far_ends.setdefault(far, near) != near:
            other = self.far_ends[far]
            text = f"port {port} of {device} is the other end of port {other[1]} of {other[0]} as well"
            raise self._refused(cable.line, text)
        if device in self.devices:
            if port > self.ports_of[device]:
                raise self._refused(cable.line, f"{device} has {self.ports_of[device]} ports, not {port}")
            text = f"{device} does not list its end of the cable to {near[0]}; the cable is taken as there"
            self._note(cable.line, text)
            return
        self._note(cable.line, f"{device} at the other end is not listed; it is taken from this line")
        self.missing.setdefault(device, cable.line)
        if cable.far:
            self.descriptions[device] = cable.far

    def _note(self, line: int, text: str) -> None:
        self.remarks.append(Remark(line, text))

    def _refused(self, line: int, text: str) -> ImportRefusedError:
        return ImportRefusedError(self.name, line, text)


def rate_of(port: str | None) -> float | None:
    """Return the data rate of a port such as ``4xNDR``, bytes/s."""
    if port is None:
        return None
    width, _, speed = port.partition("x")
    return int(width) * LANE_RATES[speed]
