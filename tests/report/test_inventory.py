"""``planner explain WORKLOAD``: flows, patterns and thresholds as tables."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from planner.cli.main import cli
from planner.costs import MemoryMode, load_calibration, mode_times, thresholds
from planner.costs.inventory import flows, host_path
from planner.report import Summary
from planner.report.inventory import inventory
from planner.report.patterns import PATTERNS
from planner.report.wording import MODES
from planner.topology import load_topology
from planner.workload import load_workload

CALIBRATION = load_calibration()


def of(workload: str, machine: str | None = None) -> Summary:
    """Return the inventory of shipped documents."""
    topology = None if machine is None else load_topology(machine)
    return inventory(load_workload(workload), topology, CALIBRATION)


def explain(*words: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["explain", *words])


def test_every_flow_has_one_of_the_five_patterns() -> None:
    """The multimodal service has flows of four of them; nothing is exchanged between its GPUs yet."""
    table = of("multimodal-serving", "gh200-dual").tables[0]
    assert {row[4] for row in table.rows} == {*PATTERNS} - {PATTERNS[3]}


def test_the_tree_shows_the_modes_and_thresholds_of_the_cost_model() -> None:
    """Best mode, time and changes of the picture are those that the cost model finds on the same path."""
    path = host_path(load_topology("gh200-dual").machine_types[0])
    assert path is not None
    flow = next(
        flow
        for flow in flows(load_workload("multimodal-serving").jobs[0], CALIBRATION)
        if flow.name == "jpeg-decode → model"
    )
    row = next(row for row in of("multimodal-serving", "gh200-dual").tables[1].rows if flow.name in row[0])
    best = mode_times(flow.access(), path, CALIBRATION)[0].mode
    assert row[1] == MODES[best]
    found = [each for each in thresholds(flow.access(), path, CALIBRATION) if each.value is not None]
    assert found
    assert row[4].count(", else ") == len(found)
    assert all(each.quantity in row[4] for each in found)


def test_hosts_differ_in_their_trees() -> None:
    """A coherent host offers loads in place, a host on PCIe does not."""
    coherent: MemoryMode = "coherent"
    assert MODES[coherent] in of("multimodal-serving", "gh200-dual").tables[1].notes[0]
    assert MODES[coherent] not in of("multimodal-serving", "dgx-h100").tables[1].notes[0]


def test_memory_decides_whether_a_model_has_to_be_divided() -> None:
    """70B weights in bf16 exceed a GPU of 80 GB, those of the 7B model do not."""
    large = next(row for row in of("llama3-70b-serving", "dgx-h100").tables[0].rows if "weights" in row[0])
    small = next(row for row in of("multimodal-serving", "dgx-h100").tables[0].rows if "weights" in row[0])
    assert "has to be divided" in large[5]
    assert "fits on one" in small[5]


def test_without_a_machine_there_is_no_tree_but_a_way_to_one() -> None:
    """The note names the option."""
    summary = of("dlrm-criteo-like")
    assert len(summary.tables) == 1
    assert "--topology" in summary.notes[0]


def test_the_command_takes_presets_and_refuses_other_names() -> None:
    """A preset is explained as tables or JSON; what is neither file nor preset is a usage error."""
    result = explain("multimodal-serving", "--topology", "dgx-h100", "--json")
    assert result.exit_code == 0, result.output
    titles = [table["title"] for table in json.loads(result.stdout)["tables"]]
    assert titles == ["Inventory", "Decision tree on dgx-h100"]
    refused = explain("no-such-plan")
    assert refused.exit_code == 2
    assert "neither a file nor a shipped workload" in refused.output
