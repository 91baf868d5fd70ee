"""The library for notebooks: results, their tables and figures, stored plans, studies."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import planner.api as planner
from planner.api import Result
from planner.errors import OutputExistsError, PlanError, StudyError
from planner.report.tables_html import rows_html
from tests.cli.documents import write_inputs
from tests.study.recommend.clusters import write_blocks
from tests.study.whatif.studies import QUICK, write_study


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return a small service, solved and simulated once; not to be changed."""
    topology, workload = write_inputs(tmp_path_factory.mktemp("api"), workload=QUICK)
    return planner.solve(topology, workload, time_limit=20.0, requests=200)


def test_a_result_holds_plan_and_simulation(result: Result) -> None:
    """A solve leaves a plan with its proof and a simulation of that very plan."""
    assert result.plan.bound <= result.plan.objective.value
    assert result.simulation is not None
    assert result.simulation.plan_digest == result.plan.content_digest


def test_a_saved_plan_is_loaded_alike(result: Result, tmp_path: Path) -> None:
    """A plan that was saved comes back with equal jobs, its inputs and its simulation."""
    again = planner.load_plan(result.save(tmp_path / "out"))
    assert again.plan.jobs == result.plan.jobs
    assert again.simulation is not None
    assert again.simulation.jobs == result.simulation.jobs  # type: ignore[union-attr]
    moved = planner.load_plan(again.save(tmp_path / "elsewhere" / "deeper"))
    assert moved.plan.jobs == result.plan.jobs


def test_saving_over_something_needs_force(result: Result, tmp_path: Path) -> None:
    """A folder that holds something stays as it is unless told otherwise."""
    (tmp_path / "kept").write_text("x", encoding="utf-8")
    with pytest.raises(OutputExistsError):
        result.save(tmp_path)
    assert result.save(tmp_path, force=True).is_file()
    assert (tmp_path / "kept").is_file()


def test_a_simulation_of_another_plan_is_left_out(result: Result, tmp_path: Path) -> None:
    """What lies beside a plan counts only if it is of that plan."""
    path = result.save(tmp_path / "out")
    beside = path.parent / "simulation.yaml"
    text = beside.read_text(encoding="utf-8")
    saved = planner.load_plan(path).plan.content_digest
    beside.write_text(text.replace(saved, "sha256:" + "0" * 64), encoding="utf-8")
    assert planner.load_plan(path).simulation is None


@pytest.mark.parametrize("what", ["links", "memory", "decisions", "baselines", "percentiles", "timeline"])
def test_every_table_has_rows(result: Result, what: str) -> None:
    """Each part of a simulated service is a table that is not empty."""
    pytest.importorskip("pandas")
    assert len(result.to_frame(what)) > 0


def test_memory_rows_add_up_to_the_plan(result: Result) -> None:
    """The parts of the table are those of the plan."""
    pytest.importorskip("pandas")
    total = sum(stage.total for job in result.plan.jobs for stage in job.memory)
    assert result.to_frame("memory")["bytes"].sum() == pytest.approx(total)


def test_an_unknown_table_names_the_known_ones(result: Result) -> None:
    """The error says what there is."""
    with pytest.raises(PlanError, match="links, memory"):
        result.to_frame("wishes")


def test_tables_without_pandas_say_how_to_get_it(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pandas is optional; its absence is an error with a remedy."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(StudyError, match="pip install"):
        result.to_frame("links")


def test_a_notebook_shows_the_plan_escaped(result: Result) -> None:
    """A hostile name is text in the page that a notebook shows, and no markup."""
    assert result.plan.name in result._repr_html_()
    shown = rows_html("<script>", ("<b>",), (("<img onerror=x>",),))
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "<img" not in shown


def test_the_explanation_says_what_lost(result: Result) -> None:
    """Every decision of the plan is in the text with its runner-up."""
    text = result.explain()
    for decision in result.plan.why:
        assert decision.decision in text
        assert decision.alternative in text


def test_figures_draw_on_the_axes_given(result: Result) -> None:
    """Each figure labels its axis with a unit, and what it draws is the result's."""
    memory, links, latency, split, time = Figure(figsize=(8, 20)).subplots(5)
    result.plot_memory(memory)
    result.plot_links(links)
    result.plot_latency(latency, limit=1.0)
    result.plot_split(split)
    result.plot_timeline(time)
    assert memory.get_xlabel().endswith("(GB)")
    assert links.get_xlabel().endswith("(%)")
    assert {axes.get_xlabel()[-3:] for axes in (latency, split, time)} == {"(s)"}
    stages = [stage for job in result.plan.jobs for stage in job.memory]
    drawn = sum(bar.get_width() for bar in memory.patches)
    assert drawn * 1e9 == pytest.approx(sum(stage.total for stage in stages))


def test_figures_of_what_was_not_simulated_say_so(result: Result) -> None:
    """There is no latency without a simulation."""
    plain = Result(result.study, None, result.sources)
    with pytest.raises(PlanError, match="simulated"):
        plain.plot_latency(Figure().subplots())


def test_a_study_runs_from_its_file(tmp_path: Path) -> None:
    """A what-if study gives an outcome per scenario, a table and a figure."""
    pytest.importorskip("pandas")
    sweep = planner.whatif(write_study(tmp_path / "inputs"), folder=tmp_path / "kept")
    assert [outcome.status for outcome in sweep.outcomes] == ["optimal"] * 4
    assert list(sweep.to_frame()["rate"]) == ["1 req/s", "2 req/s"] * 2
    assert sweep._repr_html_().count("<tr>") == 5
    axes = Figure().subplots()
    sweep.plot_line(axes)
    assert len(axes.lines) >= 2
    assert any((tmp_path / "kept").rglob("*.yaml"))


def test_the_smallest_cluster_is_recommended(tmp_path: Path) -> None:
    """Blocks with prices are ordered by cost; the table has every cluster, figures draw on given axes."""
    one, two, service = write_blocks(tmp_path)
    advice = planner.recommend(
        service, {one: 4.0, two: 7.0}, by="cost", loads=(1.0, 9.0), max_nodes=2, requests=300
    )
    assert (advice.best(), advice.best(9.0)) == ("1 x one", "1 x two")
    assert "1 x one" in advice._repr_html_()
    assert "1 x one" in repr(advice)
    frame = advice.to_frame()
    assert set(frame["cluster"]) >= {"1 x one", "2 x one", "1 x two"}
    curve, limits, sizes = Figure().subplots(3)
    advice.plot(curve)
    advice.plot_limits(limits)
    advice.plot_sizes(sizes, load=9.0)
    assert curve.get_ylabel() == "USD/h needed"
    assert limits.get_ylabel().endswith("% of its limit")
    assert [tick.get_text() for tick in sizes.get_yticklabels()] == ["1 x two", "2 x one"]


def test_a_malformed_study_says_where() -> None:
    """The fields of a study that is written in Python are checked as those of a file are."""
    with pytest.raises(StudyError, match="vary"):
        planner.whatif({"name": "s", "topology": "hgx-h200", "workload": "llama3-70b-serving", "vary": []})


def test_presets_are_those_that_solve_takes() -> None:
    """The lists hold what the commands accept, without catalogues."""
    names = planner.presets()
    assert "hgx-h200" in names["topologies"]
    assert "devices" not in names["topologies"]


def test_importing_the_package_stays_light() -> None:
    """The package itself imports none of its rooms: the command line starts at once."""
    code = "import sys, planner; sys.exit(any(name.startswith('planner.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert importlib.import_module("planner.api").__all__
