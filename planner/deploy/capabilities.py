"""What clusters offer, as data: kinds by release, drivers, schedulers, and who writes which node labels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from planner.deploy.errors import DeployError
from planner.schema import Document, Record, load

T = TypeVar("T")


class ServedKind(Record):
    """A kind, the release from which on it is there, and what has to be installed for it."""

    kind: str
    api: str
    since: str
    needs: Literal["core", "any", "kueue", "kai", "volcano", "dra"]
    crd: str | None = None
    project: str | None = None
    source: str


class Driver(Record):
    """A version of the driver for dynamic resource allocation, and the attributes of its GPUs."""

    version: str
    attributes: list[str]
    source: str


class Stack(Record):
    """A scheduler: its name in a pod, the first release with gangs, why it takes no claims of devices."""

    name: str
    scheduler: str
    gang_since: str
    no_dra: str = ""
    note: str = ""
    source: str


class LabelProfile(Record):
    """Keys of the node labels of one writer; empty where it has none for a level."""

    name: str
    accelerator: str
    leaf: str
    spine: str
    source: str


class Capabilities(Document):
    """The whole table."""

    kind: ClassVar[str] = "capabilities"
    version: ClassVar[int] = 1
    kinds: list[ServedKind]
    drivers: list[Driver]
    stacks: list[Stack]
    labels: list[LabelProfile]

    def driver(self, version: str) -> Driver:
        """Return a driver by version."""
        return _named("driver", version, {one.version: one for one in self.drivers})

    def stack(self, name: str) -> Stack:
        """Return a scheduler by name."""
        return _named("scheduler stack", name, {one.name: one for one in self.stacks})

    def profile(self, name: str) -> LabelProfile:
        """Return the label keys of a profile."""
        return _named("label profile", name, {one.name: one for one in self.labels})

    def served(self, api: str, kind: str) -> ServedKind | None:
        """Return what is known of a kind, ``None`` for those that every release has."""
        return next((one for one in self.kinds if one.kind == kind and one.api == api), None)


@cache
def capabilities() -> Capabilities:
    """Return the table that comes with the program."""
    return load(Path(__file__).with_name("capabilities.yaml"), Capabilities)


def earlier(release: str, than: str) -> bool:
    """Return whether a release such as ``1.34`` comes before another one."""
    return [int(part) for part in release.split(".")] < [int(part) for part in than.split(".")]


def _named(what: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise DeployError(f"{what} {name!r} is unknown; known: {', '.join(known)}")
    return known[name]
