"""Mistakes of a machine template that show only when its names are looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from planner.errors import nearest
from planner.schema import expand
from planner.topology.machine import pairs_of
from planner.topology.models import Device, Gpu, Link, Machine, Nic, NumaDomain, Switch

Located = tuple[tuple[str | int, ...], str]
"""A place in a document and what is wrong there."""
AnyPart = NumaDomain | Gpu | Switch | Nic


def parts_of(spec: Machine) -> dict[str, Sequence[AnyPart]]:
    """Return the parts of a machine by the field that lists them."""
    return {"numa": spec.numa, "gpus": spec.gpus, "switches": spec.switches, "nics": spec.nics}


def problems_of_machine(spec: Machine, devices: Mapping[str, Device]) -> Iterator[Located]:
    """Yield dangling names, doubled names and mismatched ranges with their place in the machine."""
    seen: dict[str, str] = {}
    for kind, parts in parts_of(spec).items():
        for index, part in enumerate(parts):
            for name in expand(part.name):
                if name in seen:
                    yield (kind, index, "name"), f"the name {name!r} is used twice, already by {seen[name]}"
                seen[name] = f"{kind}.{index}"
    yield from _problems_of_parts(spec, devices)
    for index, link in enumerate(spec.links):
        yield from _problems_of_link(index, link, seen)
    for index, mesh in enumerate(spec.meshes):
        for item in mesh.among:
            for name in expand(item):
                if name not in seen:
                    yield ("meshes", index, "among"), unknown("part", name, seen)


def _problems_of_parts(spec: Machine, devices: Mapping[str, Device]) -> Iterator[Located]:
    domains = {name for domain in spec.numa for name in expand(domain.name)}
    for index, domain in enumerate(spec.numa):
        if domain.core_list is not None and len(expand(domain.name)) > 1:
            yield (
                ("numa", index, "core_list"),
                f"{domain.name!r} names several domains; they cannot share cores",
            )
    for index, gpu in enumerate(spec.gpus):
        yield from _problems_of_home("gpus", index, gpu, domains)
        if gpu.device not in devices:
            yield ("gpus", index, "device"), unknown("device", gpu.device, devices)
    for index, nic in enumerate(spec.nics):
        yield from _problems_of_home("nics", index, nic, domains)


def _problems_of_home(kind: str, index: int, part: Gpu | Nic, domains: set[str]) -> Iterator[Located]:
    place = (kind, index, "numa")
    names, homes = expand(part.name), expand(part.numa)
    if len(homes) not in (1, len(names)):
        yield place, f"{part.name!r} names {len(names)} parts but {part.numa!r} names {len(homes)}"
    for home in homes:
        if home not in domains:
            yield place, unknown("NUMA domain", home, domains)


def _problems_of_link(index: int, link: Link, known: Mapping[str, str]) -> Iterator[Located]:
    place = ("links", index, "between")
    try:
        pairs = pairs_of(link)
    except ValueError as error:
        yield place, str(error)
        return
    for ends in zip(*pairs, strict=True):
        dangling = next((end for end in ends if end not in known), None)
        if dangling is not None:
            yield place, f"dangling link: {unknown('part', dangling, known)}"
    loop = next((left for left, right in pairs if left == right), None)
    if loop is not None:
        yield place, f"{loop!r} is linked to itself"


def unknown(what: str, name: str, known: Mapping[str, object] | set[str]) -> str:
    """Return the message for an unknown name, with the nearest known one."""
    close = nearest(name, known)
    return f"unknown {what} {name!r}" + (f"; did you mean {close!r}?" if close else "")
