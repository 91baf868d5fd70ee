"""The flows of a workload, their class and pattern, and a machine's decision tree for those of the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner import units
from planner.costs import Calibration, HostPath, Threshold, mode_times, thresholds
from planner.costs.inventory import Flow, classify, flows, host_path, latency_bound
from planner.report import wording
from planner.report.patterns import PATTERNS
from planner.report.summary import Summary, Table
from planner.topology import MachineType, Topology
from planner.workload.resolve import Workload

_PATTERN = {
    "host": PATTERNS[0],
    "host link": PATTERNS[1],
    "device memory": PATTERNS[2],
    "between GPUs": PATTERNS[3],
    "requests": PATTERNS[4],
}


def inventory(workload: Workload, topology: Topology | None, calibration: Calibration) -> Summary:
    """Return the flows of every job with their class, and for each machine where its best modes change.

    Without a topology flows are classed by what the workload states alone.
    """
    found = [flow for job in workload.jobs for flow in flows(job, calibration)]
    machines = [] if topology is None else [each for each in topology.machine_types if each.gpus]
    paths = [(machine, path) for machine in machines for path in [host_path(machine)] if path is not None]
    machine, path = paths[0] if paths else (None, None)
    tables = [_flow_table(found, machine, path, calibration)]
    hosted = [flow for flow in found if flow.place == "host link"]
    tables += [_tree(hosted, *each, calibration) for each in paths if hosted]
    where = f" on {topology.name}" if topology is not None else ""
    notes = () if paths else ("Name a machine with --topology to see its thresholds.",)
    return Summary(workload.name, f"{len(found)} flows{where}", tuple(tables), notes)


def _flow_table(
    found: Sequence[Flow], machine: MachineType | None, path: HostPath | None, calibration: Calibration
) -> Table:
    bound = None if path is None else latency_bound(path, calibration)
    memory = None if machine is None else machine.device_of(machine.gpus[0].name).memory.value
    rows = tuple(
        (
            f"{flow.job}: {flow.name}", units.show(flow.size, "bytes"), flow.per, classify(flow, bound),
            _PATTERN[flow.place], "; ".join(_reasons(flow, bound, memory)),
        )
        for flow in found
    )  # fmt: skip
    return Table("Inventory", ("flow", "size", "per", "class", "pattern", "why"), rows)


def _reasons(flow: Flow, bound: float | None, memory: float | None) -> Iterator[str]:
    """Yield the numbers behind the class and the pattern of a flow."""
    if flow.grain is not None:
        touched = units.show(flow.touched if flow.touched is not None else flow.size, "bytes")
        yield f"touches {touched} in pieces of {units.show(flow.grain, 'bytes')}"
    elif bound is not None and flow.place in ("host", "host link"):
        side = "below" if flow.size < bound else "above"
        yield f"{side} the {units.show(bound, 'bytes')} that move in a tenth of a copy's start"
    if flow.total and memory is not None:
        share = flow.total / memory
        held = f"{units.show(flow.total, 'bytes')} of the {units.show(memory, 'bytes')} of a GPU"
        yield f"{held}: " + ("fits on one" if share < 1.0 else f"has to be divided, {share:.1f} GPUs full")


def _tree(hosted: Sequence[Flow], machine: MachineType, path: HostPath, calibration: Calibration) -> Table:
    """Return, per flow of the host link, the best mode of memory and what would change it on a machine."""
    rows = []
    for flow in hosted:
        access = flow.access()
        first, *others = mode_times(access, path, calibration)
        lost = others[0]
        found = [each for each in thresholds(access, path, calibration) if each.value is not None]
        rows.append(
            (
                f"{flow.job}: {flow.name}", wording.MODES[first.mode], units.show(first.seconds, "s"),
                f"{wording.MODES[lost.mode]}, {units.show(lost.seconds, 's')}",
                "; ".join(map(_branch, found)) or "the same at every size, share and reuse",
            )
        )  # fmt: skip
    modes = ", ".join(wording.MODES[mode] for mode in path.modes)
    note = (
        f"Legal here: {modes}. Each threshold varies one quantity of the flow, the others as they are: its "
        "size, passes of the device, share touched, turns between host and device."
    )
    title = f"Decision tree on {machine.name}"
    return Table(title, ("flow", "best mode", "time", "next", "changes at"), tuple(rows), (note,))


def _branch(found: Threshold) -> str:
    value = found.value or 0.0
    shown = units.show(value, "bytes") if found.quantity == "size" else f"{value:.3g}"
    return f"{found.quantity} < {shown}: {wording.MODES[found.below]}, else {wording.MODES[found.above]}"
