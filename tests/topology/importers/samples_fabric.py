"""A rail-optimised fabric of made-up nodes, as ibnetdiscover prints one, and dumps of its nodes."""

from __future__ import annotations

from collections.abc import Sequence

from tests.topology.importers.samples import table

RAILS = 8


def dgx_table(rails: int = RAILS, cpus: Sequence[str] = ("0-55", "56-111")) -> str:
    """Return ``nvidia-smi topo -m`` of a host with eight GPUs on NVSwitch and a port beside each."""
    devices = [*(f"GPU{i}" for i in range(8)), *(f"NIC{i}" for i in range(rails))]

    def cell(row: int, column: int) -> str:
        if row == column:
            return "X"
        if row < 8 and column < 8:
            return "NV18"
        if row % 8 == column % 8:
            return "PIX"
        return "NODE" if (row % 8 < 4) == (column % 8 < 4) else "SYS"

    cells = [[cell(row, column) for column in range(len(devices))] for row in range(len(devices))]
    tails = [f"{cpus[i // 4]}\t{i // 4}\t\tN/A" for i in range(8)] + [""] * rails
    legend = "\nLegend:\n\n  X    = Self\n\nNIC Legend:\n\n" + "".join(
        f"  NIC{i}: mlx5_{i}\n" for i in range(rails)
    )
    return table(cells, tails, devices=devices, legend=legend)


def rail_fabric(nodes: Sequence[str], rails: int = RAILS, spines: int = 2, word: str = "mlx5_{}") -> str:
    """Return a listing: port *i* of every node on leaf *i*, every leaf on every spine by two cables."""
    leaves = [f"S-b0cf0e0300ff{rail:04x}" for rail in range(rails)]
    tops = [f"S-b0cf0e0300ee{spine:04x}" for spine in range(spines)]
    text = "#\n# Topology file: generated on Mon Jan  5 10:00:00 2026\n#\n\n"
    for rail, leaf in enumerate(leaves):
        ports = [_host_port(place, rail, f"{node} {word.format(rail)}") for place, node in enumerate(nodes)]
        for spine, top in enumerate(tops):
            ports += [_port(33 + 2 * spine + way, top, 1 + 2 * rail + way, spine, "spine") for way in (0, 1)]
        text += _switch(leaf, f"leaf-{rail}", ports)
    for spine, top in enumerate(tops):
        ports = []
        for rail, leaf in enumerate(leaves):
            ports += [_port(1 + 2 * rail + way, leaf, 33 + 2 * spine + way, rail, "leaf") for way in (0, 1)]
        text += _switch(top, f"spine-{spine}", ports)
    for place, node in enumerate(nodes):
        for rail, leaf in enumerate(leaves):
            guid = _guid(place, rail)
            text += f'vendid=0x2c9\ncaguid=0x{guid}\nCa\t1 "H-{guid}"\t\t# "{node} {word.format(rail)}"\n'
            text += (
                f'[1]({guid}) \t"{leaf}"[{place + 1}]\t\t# lid 9 "{_called("leaf", rail)}" lid 1 4xNDR\n\n'
            )
    return text


def _switch(guid: str, name: str, ports: Sequence[str]) -> str:
    head = f"vendid=0x2c9\nswitchguid=0x{guid[2:]}\n"
    return f'{head}Switch\t65 "{guid}"\t\t# "MF0;{name}:MQM9700/U1" lid 1\n' + "".join(ports) + "\n"


def _host_port(place: int, rail: int, name: str) -> str:
    guid = _guid(place, rail)
    return f'[{place + 1}]\t"H-{guid}"[1]({guid}) \t\t# "{name}" lid 9 4xNDR\n'


def _port(own: int, far: str, port: int, number: int, word: str) -> str:
    return f'[{own}]\t"{far}"[{port}]\t\t# "{_called(word, number)}" lid 8 4xNDR\n'


def _called(word: str, number: int) -> str:
    return f"MF0;{word}-{number}:MQM9700/U1"


def _guid(place: int, rail: int) -> str:
    return f"e09d73030{place:04x}{rail:03x}"
