"""Damage dumps in many ways and see what the importers make of them.

``python -m benchmarks.topology_mutations FOLDER [--count 10000] [--seed 0] [--json OUT]`` takes every dump
that FOLDER/truth.json lists in turn, damages it once or twice, reads it, and compares what is accepted with
that of the sound dump. What counts is the graph: connectivity, counts, rates, NUMA lists. Every field of the
view is compared all the same; a difference in labels that do not enter the graph (`NOT_IN_GRAPH`) passes only
if the ``topology/1`` documents of the two views are equal, their notes included, or the same refusal says
that neither gives one. A damaged dump is

- *refused*: a typed error says why;
- *equal*: read as the sound one is;
- *same_graph*: read as the same graph, with another label that is only kept beside it;
- *warned*: read differently, with a remark that the sound one does not have;
- *crashed*: another error than a typed one;
- *hung*: no answer within the time limit;
- *undetectable*: read differently without a new remark, but the damaged text is itself a sound dump of
  another machine: one stated value was put in place of another of its kind, and nothing else in the file
  states it. A reader of that file alone cannot know. `NO_REDUNDANCY` names every such field with the reason;
  a difference in any other field is not excused, nor is damage that is more than a change of values or lines.
- *silent_wrong*: anything else that differs without a new remark.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import planner
from benchmarks.topology_damage import ARCHIVE_DAMAGE, TEXT_DAMAGE, Damage, tar_of
from benchmarks.topology_import import CRASHES
from planner.errors import PlannerError
from planner.topology.importers.detect import read_text
from planner.topology.importers.document import described
from planner.topology.importers.snapshot import ArchiveTree
from planner.topology.importers.sysfs import read_tree
from planner.topology.importers.views import FabricView, HostView
from planner.topology.resolve import catalogue

VERDICTS = ("refused", "warned", "equal", "same_graph", "crashed", "hung", "undetectable", "silent_wrong")
LIMIT = 5.0
"""Time limit of one reading, s."""
EXAMPLES = 120
View = HostView | FabricView
UNORDERED = ("unknown_functions",)
"""Fields in which order says nothing."""
NOT_IN_GRAPH: Mapping[str, str] = {
    "gpus.bus_id": "identity for merging; merge compares it with the other views",
    "nics.bus_id": "identity for merging; merge compares it with the other views",
    "bridges": "addresses of bridges; which devices share one is in the document",
    "nic_names": "names of adapters in the legend; the matrix has its own",
    "memory_attributes": "values that an export may hold; no rate is taken from them",
    "functions": "functions other than GPUs and adapters, and what hwloc concludes of their links",
}
"""Labels that a view keeps beside the graph, with all that is below them, and what each is."""
FALLBACK = "h100-sxm-80"
"""Device of GPUs without a product, so that their graph can be drawn."""
_ONCE = "stated once, and any other value of its kind is as plausible"
NO_REDUNDANCY: Mapping[str, Mapping[str, str]] = {
    "hwloc-xml": {
        "numa.memory": "stated once where the export has no counts of pages",
        "cpu": f"a name of a product, {_ONCE}",
    },
    "nccl-xml": {
        "nics.name": f"a name of an adapter or port, {_ONCE}",
        "nics.speeds": f"the rate of a port, {_ONCE} where the ports of a host run at several rates",
    },
    "sysfs": {"cpu": "a name of a product in free text, the same for all processors or stated once"},
    "lscpu": {"cpu": f"a name of a product, {_ONCE}"},
}
VALUE_DAMAGE = frozenset(
    {
        "swap_cells", "swap_values", "double_id", "drop_line", "double_line", "drop_cell", "crlf", "mark",
        "blanks", "change_member", "flip_bytes",
    }
)  # fmt: skip
"""Damage after which a text may still be a sound dump."""


class HungError(BaseException):
    """A reading took longer than it may."""


@dataclass(frozen=True)
class Subject:
    """A sound dump: its text, or its unpacked archive."""

    kind: str
    file: str
    body: str | bytes
    view: View | None


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged dump; ``fields`` are those that differ."""

    subject: Subject
    steps: tuple[str, ...]
    verdict: str
    detail: str = ""
    seconds: float = 0.0


def subjects(folder: Path) -> list[Subject]:
    """Return every dump that the folder's truth lists, with the view of it, None where it is refused."""
    try:
        entries = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlannerError(f"{folder}/truth.json cannot be read: {error}") from error
    found = []
    for entry in entries:
        data = (folder / entry["kind"] / entry["file"]).read_bytes()
        body = tar_of(data) or data.decode("utf-8-sig")
        try:
            view = _read(body, entry["file"])
        except PlannerError:
            view = None
        found.append(Subject(entry["kind"], entry["file"], body, view))
    return found


def _read(body: str | bytes, name: str) -> View:
    if isinstance(body, str):
        return read_text(body, name)
    tree = ArchiveTree(name, body)
    roots = tree.roots()
    if len(roots) != 1:
        raise PlannerError(f"{name}: {len(roots)} snapshots")
    tree.rooted(roots[0])
    return read_tree(tree)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def damaged(subject: Subject, rng: random.Random) -> tuple[tuple[str, ...], str | bytes]:
    """Return a dump damaged once or twice, and how."""
    body, steps = subject.body, []
    for _ in range(rng.choice((1, 1, 2))):
        pool: Sequence[Damage] = TEXT_DAMAGE if isinstance(body, str) else ARCHIVE_DAMAGE
        damage = rng.choice(pool)
        body = damage(body, rng)
        steps.append(damage.__name__)
    return tuple(steps), body


def judge(subject: Subject, steps: tuple[str, ...], body: str | bytes) -> Outcome:
    """Read one damaged dump and say what became of it."""
    started = time.perf_counter()

    def outcome(verdict: str, detail: str = "") -> Outcome:
        return Outcome(subject, steps, verdict, detail, time.perf_counter() - started)

    try:
        with _limited(LIMIT):
            view = _read(body, subject.file)
    except PlannerError as refusal:
        return outcome("refused", str(refusal)[:200])
    except HungError:
        return outcome("hung")
    except (*CRASHES, AssertionError, EOFError, MemoryError, RuntimeError) as crash:
        return outcome("crashed", f"{type(crash).__name__}: {crash}"[:200])
    if subject.view is None:
        known = {"the sound dump is refused"} if not view.remarks else set()
        return outcome("silent_wrong" if known else "warned", "read, though the sound dump is refused")
    different = list(_differences(subject.view, view))
    if not different:
        return outcome("equal")
    said = {remark.text for remark in view.remarks} - {remark.text for remark in subject.view.remarks}
    text = "; ".join(f"{name}: {left!r} became {right!r}"[:160] for name, left, right in different[:3])
    if said:
        return outcome("warned", text)
    if _same_graph(subject.view, view, [name for name, _, _ in different]):
        return outcome("same_graph", text)
    excused = NO_REDUNDANCY.get(subject.view.format, {})
    plain = VALUE_DAMAGE.issuperset(steps) and all(name in excused for name, _, _ in different)
    return outcome("undetectable" if plain else "silent_wrong", text)


def _same_graph(sound: View, other: View, different: Sequence[str]) -> bool:
    """Whether two views differ in labels alone, and give the same document with the same notes."""
    if not (isinstance(sound, HostView) and isinstance(other, HostView)):
        return False
    if not all(any(f"{name}.".startswith(f"{label}.") for label in NOT_IN_GRAPH) for name in different):
        return False
    return _graph(sound) == _graph(other)


def _graph(view: HostView) -> object:
    """Return document and notes of a host, or the refusal where its dump tells too little for a graph."""
    refusal = ""
    for device in (None, FALLBACK):
        try:
            return described(view, "host", catalogue(), device)
        except PlannerError as error:
            refusal = str(error)
    return refusal


def _differences(sound: object, other: object, place: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield the fields that differ, by name: ``gpus.numa`` is the ``numa`` of some GPU."""
    if type(sound) is not type(other):
        yield place or "format", sound, other
    elif hasattr(sound, "__dataclass_fields__"):
        for one in fields(sound):  # type: ignore[arg-type]
            if one.name != "remarks":
                name = f"{place}.{one.name}" if place else one.name
                yield from _differences(getattr(sound, one.name), getattr(other, one.name), name)
    elif pairs := _paired(sound, other):
        for left, right in pairs:
            yield from _differences(left, right, place)
    elif (set(sound) != set(other)) if place in UNORDERED else (sound != other):  # type: ignore[call-overload]
        yield place, sound, other


def _paired(sound: object, other: object) -> list[tuple[object, object]]:
    """Return the records or values of two collections that belong together, none where they are not alike."""
    if isinstance(sound, tuple) and isinstance(other, tuple) and len(sound) == len(other):
        rich = any(hasattr(item, "__dataclass_fields__") for item in sound)
        return list(zip(sound, other, strict=True)) if rich else []
    if isinstance(sound, Mapping) and isinstance(other, Mapping) and sound.keys() == other.keys():
        return [(sound[key], other[key]) for key in sound]
    return []


def run(folder: Path, count: int, seed: int) -> list[Outcome]:
    """Damage the dumps of a folder ``count`` times, each in its turn; the same for the same seed."""
    rng = random.Random(seed)
    every = subjects(folder)
    if not every:
        return []
    return [
        judge(subject, *damaged(subject, rng)) for subject in (every[i % len(every)] for i in range(count))
    ]


def report(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """Return the figures as a document."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    examples: dict[str, list[dict[str, str]]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.verdict in ("same_graph", "crashed", "hung", "undetectable", "silent_wrong"):
            row = {"file": outcome.subject.file, "damage": "+".join(outcome.steps), "what": outcome.detail}
            if len(examples[outcome.verdict]) < EXAMPLES:
                examples[outcome.verdict].append(row)
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        by_kind[outcome.subject.kind][outcome.verdict] += 1
    rows = [
        {"case": kind, "metric": verdict, "value": found[verdict], "reference": None}
        for kind, found in by_kind.items()
        for verdict in VERDICTS
    ]
    summary: dict[str, Any] = {"mutated": len(outcomes)} | {verdict: counts[verdict] for verdict in VERDICTS}
    summary |= {"slowest_seconds": max((one.seconds for one in outcomes), default=0.0), "seed": seed}
    return {
        "benchmark": "topology_mutations", "version": planner.__version__, "rows": rows,
        "examples": dict(examples), "reasons": {key: dict(one) for key, one in NO_REDUNDANCY.items()},
        "not_in_graph": dict(NOT_IN_GRAPH),
        "summary": summary,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit code, 0 when nothing crashed, hung or was silently wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topology_mutations", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10_000, help="how many damaged dumps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    document = report(run(options.folder, options.count, options.seed), options.seed)
    for verdict, rows in document["examples"].items():
        for row in rows:
            print(f"{verdict:13}{row['file']}: {row['damage']}: {row['what'][:200]}")
    print(json.dumps(document["summary"]))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if not any(document["summary"][bad] for bad in ("crashed", "hung", "silent_wrong")) else 1


if __name__ == "__main__":
    raise SystemExit(main())
