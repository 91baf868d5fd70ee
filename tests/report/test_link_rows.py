"""Rows of the busiest links: those alike by symmetry share one, those that differ do not."""

from planner.placement.plan import Plan
from planner.report.link_rows import MOST_ROWS, link_rows
from tests.report import factories, machines, simulations


def with_use(plan: Plan, uses: dict[str, float]) -> Plan:
    sample = plan.links[0]
    links = [
        sample.model_copy(update={"source": source, "target": "switch", "utilisation": use})
        for source, use in uses.items()
    ]
    return plan.model_copy(update={"links": links})


def test_alike_links_are_folded() -> None:
    """Eight GPUs of equal load are one row with their count; one that is busier has its own, first."""
    plan = factories.training_plan(machines.topology(nodes=1), tp=8, pp=1)
    rows = link_rows(with_use(plan, {f"gpu{i}": 0.5 for i in range(8)} | {"gpu8": 0.75}), None)
    assert [(row.ends[0], row.many, row.use) for row in rows] == [
        ("gpu8", 1, "75 %"),
        ("gpu[0-7]", 8, "50 %"),
    ]


def test_peaks_tell_links_apart() -> None:
    """Links of one mean whose simulated peaks differ are not alike."""
    plan = with_use(
        factories.training_plan(machines.topology(nodes=1), tp=8, pp=1), {"gpu0": 0.5, "gpu1": 0.5}
    )
    simulation = simulations.training_simulation(plan)
    first, second = simulation.links
    changed = simulation.model_copy(update={"links": [first, second.model_copy(update={"peak": 1.0})]})
    assert [row.many for row in link_rows(plan, simulation)] == [2]
    assert [row.many for row in link_rows(plan, changed)] == [1, 1]


def test_only_so_many_rows() -> None:
    """A large machine gives a short table."""
    plan = factories.training_plan(machines.topology(nodes=1), tp=8, pp=1)
    uses = {f"{chr(97 + i)}link": 0.3 + i / 100 for i in range(2 * MOST_ROWS)}
    assert len(link_rows(with_use(plan, uses), None)) == MOST_ROWS
