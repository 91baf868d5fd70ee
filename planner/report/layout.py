"""Where the parts of one machine go on paper: sockets side by side, each above its switches and GPUs.

Every part hangs below the part that connects it to its socket, in sub-columns that do not overlap, so that
links run straight down and cross nothing. Switches of the GPU fabric lie as one bar across the bottom.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.topology.machine import MachineType

GPU, NIC, SWITCH = (64.0, 52.0), (40.0, 28.0), (52.0, 28.0)
NUMA_HEIGHT, SOCKET_LEAST = 52.0, 150.0
GAP, PAD, SOCKET_GAP, ROW_GAP = 8.0, 14.0, 30.0, 30.0
BAR_HEIGHT, BAR_GAP = 26.0, 22.0
LINE_WIDTH = 1000.0
GPU_FABRIC = frozenset({"nvlink", "xgmi"})


@dataclass(frozen=True)
class Box:
    """A rectangle on paper, px."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Horizontal middle."""
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.y + self.height

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x + self.width


@dataclass(frozen=True)
class Bar:
    """Equal switches of the GPU fabric, drawn as one bar below a line of sockets."""

    switches: tuple[str, ...]
    gpus: tuple[str, ...]
    box: Box
    outside: bool


@dataclass
class MachineLayout:
    """Boxes of all parts, frames of the sockets, bars of the GPU fabric; px."""

    width: float = 0.0
    height: float = 0.0
    boxes: dict[str, Box] = field(default_factory=dict)
    frames: list[Box] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    line_of: dict[str, int] = field(default_factory=dict)


@dataclass
class _Branch:
    """A part and what hangs below it; network ports sit beside their switch."""

    name: str
    size: tuple[float, float]
    nics: list[str] = field(default_factory=list)
    below: list[_Branch] = field(default_factory=list)

    def own_width(self) -> float:
        return self.size[0] + len(self.nics) * (NIC[0] + GAP)

    def width(self) -> float:
        return max(self.own_width(), _total(self.below))

    def depth(self) -> int:
        """Rows of switches from here down."""
        return 0 if self.size == GPU else 1 + max((branch.depth() for branch in self.below), default=0)


def _total(branches: list[_Branch]) -> float:
    return sum(branch.width() for branch in branches) + GAP * max(0, len(branches) - 1)


def lay_out(machine: MachineType, outside: Mapping[str, frozenset[str]] | None = None) -> MachineLayout:
    """Return the layout of a machine.

    Parameters
    ----------
    outside
        By GPU, the switches of the GPU fabric outside the node that it is linked to.
    """
    fabric = fabric_switches(machine)
    sockets = _branches(machine, {name for names in fabric.values() for name in names})
    linked = _switch_groups(machine, fabric, outside or {})
    layout = MachineLayout()
    lines = _lines(sockets)
    depth = max((branch.depth() for socket in sockets for branch in socket.below), default=0)
    depth = max(depth, int(any(socket.nics for socket in sockets)))
    top = PAD + arch_room(machine)
    for index, line in enumerate(lines):
        top = _place_line(layout, line, depth, top, index)
        top = _place_bars(layout, linked, index, top + arc_room(machine)) + (
            SOCKET_GAP if line is not lines[-1] else 0
        )
    layout.height = top + PAD
    return layout


def arch_depth(hops: int) -> float:
    """Return the height of a link over the sockets to the one ``hops`` further, px."""
    return min(12.0 + 12.0 * hops, 84.0)


def arc_depth(hops: int) -> float:
    """Return the depth of a link under the GPUs to the one ``hops`` further, px."""
    return min(18.0 + 9.0 * hops, 100.0)


def arch_room(machine: MachineType) -> float:
    """Return the space above the sockets for links between sockets that are not neighbours, px."""
    hops = _longest(machine, [numa.name for numa in machine.numa])
    return arch_depth(hops) - PAD + 6 if hops > 1 else 0.0


def arc_room(machine: MachineType) -> float:
    """Return the space below the GPUs for links from GPU to GPU, px."""
    hops = _longest(machine, [gpu.name for gpu in machine.gpus])
    return arc_depth(hops) - PAD + 6 if hops else 0.0


def _longest(machine: MachineType, names: list[str]) -> int:
    place = {name: index for index, name in enumerate(names)}
    spans = (
        abs(place[e.source] - place[e.target])
        for e in machine.edges
        if e.source in place and e.target in place
    )
    return max(spans, default=0)


def fabric_switches(machine: MachineType) -> dict[frozenset[str], list[str]]:
    """Return the switches that only carry the GPU fabric, grouped by the GPUs they join."""
    neighbours: dict[str, set[str]] = {switch.name: set() for switch in machine.switches}
    host = {switch.name for switch in machine.switches if switch.kind == "pcie"}
    for edge in machine.edges:
        if edge.source in neighbours:
            neighbours[edge.source].add(edge.target)
            if edge.kind not in GPU_FABRIC:
                host.add(edge.source)
    groups: dict[frozenset[str], list[str]] = defaultdict(list)
    for name, ends in neighbours.items():
        if name not in host:
            groups[frozenset(ends)].append(name)
    return groups


def _branches(machine: MachineType, apart: set[str]) -> list[_Branch]:
    """Return one tree per NUMA domain, in which every part appears once."""
    parents = _parents(machine, apart)
    nics = [nic.name for nic in machine.nics]
    names = {numa.name for numa in machine.numa}
    branches = {numa.name: _Branch(numa.name, (SOCKET_LEAST, NUMA_HEIGHT)) for numa in machine.numa}
    branches |= {s.name: _Branch(s.name, SWITCH) for s in machine.switches if s.name not in apart}
    branches |= {gpu.name: _Branch(gpu.name, GPU) for gpu in machine.gpus}
    sockets = [branches[numa.name] for numa in machine.numa]
    homes = {gpu.name: gpu.numa for gpu in machine.gpus} | {nic.name: nic.numa for nic in machine.nics}
    for name in (*branches, *nics):
        if name not in names:
            parent = branches[parents.get(name) or homes.get(name, sockets[0].name)]
            if name in nics:
                parent.nics.append(name)
            else:
                parent.below.append(branches[name])
    return sockets


def _parents(machine: MachineType, apart: set[str]) -> dict[str, str]:
    """Return, by part, the part that connects it to a socket; searched breadth-first from all sockets."""
    ends = {gpu.name for gpu in machine.gpus} | {nic.name for nic in machine.nics} | apart
    near: dict[str, list[str]] = defaultdict(list)
    for edge in machine.edges:
        if edge.kind not in (*GPU_FABRIC, "socket"):
            near[edge.source].append(edge.target)
    parents: dict[str, str] = {}
    queue = deque(numa.name for numa in machine.numa)
    seen = set(queue)
    while queue:
        name = queue.popleft()
        for following in near[name]:
            if following not in seen and following not in apart:
                seen.add(following)
                parents[following] = name
                if following not in ends:
                    queue.append(following)
    return parents


def _socket_width(socket: _Branch) -> float:
    return max(SOCKET_LEAST, _content(socket)) + 2 * PAD


def _lines(sockets: list[_Branch]) -> list[list[_Branch]]:
    """Break the sockets into lines that fit the width of a page."""
    lines: list[list[_Branch]] = [[]]
    used = 0.0
    for socket in sockets:
        width = _socket_width(socket) + SOCKET_GAP
        if lines[-1] and used + width > LINE_WIDTH:
            lines.append([])
            used = 0.0
        lines[-1].append(socket)
        used += width
    return lines


def _place_line(layout: MachineLayout, line: list[_Branch], depth: int, top: float, index: int) -> float:
    """Place the sockets of one line; return the lower end."""
    x = PAD
    has_gpus = any(_has_gpu(socket) for socket in line)
    rows = top + PAD + NUMA_HEIGHT
    gpu_top = rows + depth * (ROW_GAP + SWITCH[1]) + ROW_GAP
    end = (gpu_top + GPU[1] if has_gpus else rows + depth * (ROW_GAP + SWITCH[1])) + PAD
    for socket in line:
        width = _socket_width(socket)
        layout.frames.append(Box(x, top, width, end - top))
        layout.boxes[socket.name] = Box(x + PAD, top + PAD, width - 2 * PAD, NUMA_HEIGHT)
        layout.line_of[socket.name] = index
        left = x + PAD + (width - 2 * PAD - _content(socket)) / 2
        for branch in socket.below:
            _place_branch(layout, branch, left, rows + ROW_GAP, gpu_top, index)
            left += branch.width() + GAP
        for nic in socket.nics:
            layout.boxes[nic] = Box(left, rows + ROW_GAP, *NIC)
            layout.line_of[nic] = index
            left += NIC[0] + GAP
        x += width + SOCKET_GAP
    layout.width = max(layout.width, x - SOCKET_GAP + PAD)
    return end


def _content(socket: _Branch) -> float:
    nics = len(socket.nics) * NIC[0] + GAP * max(0, len(socket.nics) - 1)
    return _total(socket.below) + (GAP if socket.nics and socket.below else 0.0) + nics


def _has_gpu(branch: _Branch) -> bool:
    return branch.size == GPU or any(_has_gpu(below) for below in branch.below)


def _place_branch(
    layout: MachineLayout, branch: _Branch, left: float, top: float, gpu_top: float, line: int
) -> None:
    layout.line_of[branch.name] = line
    width = branch.width()
    if branch.size == GPU:
        layout.boxes[branch.name] = Box(left, gpu_top, *GPU)
        return
    x = left + (width - branch.own_width()) / 2
    before = len(branch.nics) // 2
    for position, nic in enumerate([*branch.nics[:before], "", *branch.nics[before:]]):
        size = SWITCH if position == before else NIC
        layout.boxes[nic or branch.name] = Box(x, top, *size)
        layout.line_of[nic or branch.name] = line
        x += size[0] + GAP
    switch, total = layout.boxes[branch.name], _total(branch.below)
    x = min(max(switch.middle - total / 2, left), left + width - total)
    for below in branch.below:
        _place_branch(layout, below, x, top + SWITCH[1] + ROW_GAP, gpu_top, line)
        x += below.width() + GAP


def _switch_groups(
    machine: MachineType, fabric: Mapping[frozenset[str], list[str]], outside: Mapping[str, frozenset[str]]
) -> list[tuple[tuple[str, ...], tuple[str, ...], bool]]:
    order = [gpu.name for gpu in machine.gpus]
    groups = [(tuple(names), tuple(g for g in order if g in ends), False) for ends, names in fabric.items()]
    by_switches: dict[frozenset[str], list[str]] = defaultdict(list)
    for gpu in order:
        if outside.get(gpu):
            by_switches[outside[gpu]].append(gpu)
    groups += [(tuple(sorted(names)), tuple(gpus), True) for names, gpus in by_switches.items()]
    return groups


def _place_bars(
    layout: MachineLayout, groups: list[tuple[tuple[str, ...], tuple[str, ...], bool]], line: int, top: float
) -> float:
    frames = [layout.boxes[name] for name, where in layout.line_of.items() if where == line]
    for switches, gpus, outside in groups:
        here = tuple(gpu for gpu in gpus if layout.line_of.get(gpu) == line)
        boxes = [layout.boxes[gpu] for gpu in here] or (frames if not gpus else [])
        if boxes:
            left, right = min(box.x for box in boxes), max(box.right for box in boxes)
            top += BAR_GAP
            layout.bars.append(Bar(switches, here, Box(left, top, right - left, BAR_HEIGHT), outside))
            top += BAR_HEIGHT
    return top
