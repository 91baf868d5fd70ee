"""The report page is one safe, self-contained, readable file, however large or hostile its inputs are."""

import json
import re
import time
from html.parser import HTMLParser

import pytest

from planner.placement.plan import Plan
from planner.report import render_report
from planner.report.names import TIMES
from planner.simulate.result import SimulationResult, TimelineSpan
from planner.topology import Topology
from tests.report import factories, machines, simulations

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Reader(HTMLParser):
    """Reads a page and keeps what the tests ask about."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def training() -> tuple[Plan, Topology, SimulationResult]:
    where = machines.topology(nodes=8)
    plan = factories.training_plan(where)
    return plan, where, simulations.training_simulation(plan)


def serving() -> tuple[Plan, Topology, SimulationResult]:
    where = machines.topology(nodes=2)
    plan = factories.serving_plan(where)
    return plan, where, simulations.serving_simulation(plan)


@pytest.fixture(scope="module")
def training_page() -> str:
    return render_report(*training(), factories.training_workload())


@pytest.fixture(scope="module")
def serving_page() -> str:
    return render_report(*serving(), factories.serving_workload())


@pytest.fixture(params=["training", "serving"])
def page(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_page"))


def test_page_is_well_formed(page: str) -> None:
    """Every element that is opened is closed in order, and no id is given twice."""
    reader = read(page)
    assert reader.faults == []
    assert reader.open == []
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_page_loads_nothing(page: str) -> None:
    """No element and no style refers to anything outside the page, and a policy forbids it."""
    reader = read(page)
    for tag, attrs in reader.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "srcset", "xlink:href", "action", "data"} & attrs.keys()
        assert (attrs.get("href") or "#").startswith("#")
    assert "://" not in page
    assert not re.search(r"url\(|@import", page)
    policy = next(
        a["content"] for _, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'")


def test_anchors_lead_somewhere(page: str) -> None:
    """Every link of the page names an element of the page, as does every label and aria reference."""
    reader = read(page)
    ids = {attrs["id"] for _, attrs in reader.elements if "id" in attrs}
    for _, attrs in reader.elements:
        for key in ("href", "for", "aria-labelledby", "aria-controls"):
            target = attrs.get(key)
            if target is not None:
                assert target.removeprefix("#") in ids


def test_pictures_have_text_alternatives(page: str) -> None:
    """Every inline image has the role and a label."""
    svgs = [attrs for tag, attrs in read(page).elements if tag == "svg"]
    assert len(svgs) > 5
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in svgs)


def test_page_states_the_result(training_page: str) -> None:
    """Status, gap, degrees, the best baseline's ratio and the decision that lost are there to read."""
    text = " ".join(read(training_page).text)
    for expected in (
        "at most 3.0 %",
        f"TP 8 {TIMES} PP 4 {TIMES} DP 2",
        f"1.21 {TIMES}",
        "18 %",
        "tensor across nodes",
        "11.8 s",
    ):
        assert expected in text
    assert f"{TIMES} 1 more like this" in text


def test_serving_page_shows_latency_against_its_limit(serving_page: str) -> None:
    """The distribution, its percentiles and the verdict on the limits are shown."""
    text = " ".join(read(serving_page).text)
    assert "every limit holds" in text
    assert "limit 6.00 s" in text
    assert "p99" in text


def test_both_colour_schemes(page: str) -> None:
    """The page follows the reader's colour scheme, on narrow screens too."""
    assert "prefers-color-scheme:dark" in page
    assert "max-width:720px" in page


def test_hostile_names_stay_text() -> None:
    """Markup in names, in drawings, tables, charts and script data, never becomes markup."""
    machine = machines.dgx()
    evil = machines.HOSTILE_PART
    links = [item for item in machine.links if "gpu[0-7]" not in item.between]
    machine = machine.model_copy(
        update={"gpus": [g.model_copy(update={"name": evil + g.name}) for g in machine.gpus], "links": links}
    )
    where = machines.topology(machine, 2, node_name=evil)
    plan = factories.training_plan(where, tp=4, pp=2)
    text = machines.HOSTILE
    decision = plan.why[0].model_copy(
        update=dict.fromkeys(("decision", "chosen", "alternative", "reason"), text)
    )
    link = plan.links[0].model_copy(update={"source": text, "target": text, "kind": text})
    rule = plan.baselines[0].model_copy(update={"name": text, "note": text})
    inputs = plan.inputs.model_copy(
        update={"topology": plan.inputs.topology.model_copy(update={"name": text, "path": text})}
    )
    plan = plan.model_copy(
        update={
            "why": [decision],
            "links": [link, *plan.links],
            "baselines": [rule],
            "inputs": inputs,
            "proof": text,
        }
    )
    simulation = simulations.training_simulation(plan)
    span = TimelineSpan(track=text, name=text, category="forward", start=0.0, end=9.0)
    job = simulation.jobs[0].model_copy(update={"timeline": [*simulation.jobs[0].timeline, span]})
    page = render_report(plan, where, simulation.model_copy(update={"jobs": [job]}))
    reader = read(page)
    assert reader.faults == []
    assert sum(tag == "script" for tag, _ in reader.elements) == 3
    assert not any(key.startswith("on") for _, attrs in reader.elements for key in attrs)
    assert not any(tag == "b" for tag, _ in reader.elements)
    assert "\u202e" not in page and "\x01" not in page
    assert "alert(" in " ".join(reader.text)


def test_search_data_lists_every_gpu(training_page: str) -> None:
    """The search box knows every node, every GPU, and what each GPU does."""
    raw = re.search(r'<script type="application/json" id="index">(.*?)</script>', training_page, re.DOTALL)
    assert raw is not None
    index = json.loads(raw[1])
    assert len(index["nodes"]) == 8
    assert [len(index["gpus"][kind]) for kind in index["type"]] == [8] * 8
    assert index["uses"][2][1] == [[index["groups"].index("stage 1"), "rank 17, replica 0"]]


def test_large_cluster_stays_small_and_quick() -> None:
    """2,048 nodes of 8 GPUs give a page below 5 MB in less than 3 s, folded by symmetry."""
    where = machines.topology(nodes=2048)
    plan = factories.training_plan(where, pp=16)
    simulation = simulations.training_simulation(plan, stages=16, micro=64)
    start = time.process_time()
    page = render_report(plan, where, simulation)
    assert time.process_time() - start < 3.0
    assert len(page.encode()) < 5e6
    assert page.count('class="cell') == 2048
    assert f"{TIMES} 127 more like this" in page


def test_prediction_alone_gives_a_page() -> None:
    """Without a simulation or a workload the page is still complete and sound."""
    plan, where, _ = training()
    bare = plan.model_copy(
        update={"links": [], "baselines": [], "why": [], "proof": "", "assumed_share": 0.0}
    )
    reader = read(render_report(bare, where, None))
    assert reader.faults == []
    assert "timeline" not in {attrs.get("id") for _, attrs in reader.elements}


def test_several_jobs_are_told_apart() -> None:
    """A plan of two jobs names each of them where it shows its stages, memory and performance."""
    where = machines.topology(nodes=4)
    first, second = factories.training_plan(where, pp=2), factories.serving_plan(where)
    both = first.model_copy(update={"jobs": [*first.jobs, *second.jobs]})
    text = " ".join(read(render_report(both, where, simulations.serving_simulation(second))).text)
    assert "pretrain, stage 1" in text
    assert "chat" in text


def test_pages_are_equal_for_equal_inputs() -> None:
    """The same plan gives the same bytes."""
    assert render_report(*training()) == render_report(*training())
