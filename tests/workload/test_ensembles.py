"""Documents of ensembles: stages, classes, what is wrong with them."""

from typing import Any

import pytest
from pydantic import ValidationError

from planner.workload import EnsembleJob, StageGraph, load_workload

CPU = {"work": 1e-3}
GPU = {"flops": 1e9}


def job(*stages: dict[str, Any], **fields: Any) -> EnsembleJob:
    classes = [{"name": "a", "rate": 10.0, "items": 2}, {"name": "b", "rate": 1.0}]
    whole = {"kind": "ensemble", "name": "e", "classes": classes, "stages": list(stages)}
    return EnsembleJob.model_validate(whole | fields)


def test_stages_follow_one_another_unless_they_say_what_they_wait_for() -> None:
    """Without ``after`` a stage waits for the one before; with it, paths fork and join."""
    made = job(
        {"name": "in", "cpu": CPU},
        {"name": "left", "cpu": CPU},
        {"name": "right", "after": ["in"], "gpu": GPU},
        {"name": "out", "after": ["left", "right"], "cpu": CPU},
    )
    graph = StageGraph(tuple(made.stages))
    assert graph.edges == ((0, 1), (0, 2), (1, 3), (2, 3))
    assert sorted(graph.paths) == [(0, 1, 3), (0, 2, 3)]
    assert graph.num_paths == 2
    assert (graph.entries, graph.exits) == ((0,), (3,))


def test_work_counts_per_item_or_per_request() -> None:
    """A stage per item works on every item of a request, one after the other; per request once."""
    each, once = job({"name": "s", "cpu": CPU}, {"name": "t", "per": "request", "cpu": CPU}).stages
    album = job({"name": "s", "cpu": CPU}).classes[0]
    assert (each.units(album), once.units(album)) == (2, 1)
    assert each.cpu_stage(2).work == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([{"name": "s"}], "give 'cpu', 'gpu', or both"),
        ([{"name": "s", "cpu": CPU}, {"name": "s", "cpu": CPU}], "named twice"),
        ([{"name": "s", "cpu": CPU, "after": ["t"]}, {"name": "t", "cpu": CPU}], "no stage 't' before"),
        ([{"name": "s", "gpu": {}}], "give 'flops'"),
        ([{"name": "s", "gpu": {"measured": [{"batch": 1, "seconds": 1.0}]}}], "go together"),
    ],
)
def test_a_malformed_pipeline_says_what_is_wrong(stages: list[dict[str, Any]], words: str) -> None:
    """Stages without work, named twice, in a circle or half measured are refused with a way out."""
    with pytest.raises(ValidationError, match=words):
        job(*stages)


def test_shipped_ensembles_load_and_differ_by_digest() -> None:
    """Both shipped ensembles load; another rate is another digest."""
    first, second = load_workload("multimodal-ensemble"), load_workload("hybrid-study")
    assert first.digest != second.digest
    assert len(second.jobs[0].model.stages) == 12  # type: ignore[union-attr]
