import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.manifest_plans import plan, serving_plan
from planner.deploy import DeployError, Program, Target, kubernetes_bundle, launch_files
from planner.placement.plan import CpuPlacement, Replica, Transfer
from planner.workload import CpuStage
from tests.deploy.manifests import as_pod, containers, documents, environment, templates, validate_core
from tests.deploy.plans import Case, nodes, serving_job, topology, workload
from tests.deploy.shells import install, needs_bash, run, syntax_errors

NASTY = [
    "$(touch pwned)",
    "`id`",
    "'; rm -rf / #",
    '"; id; "',
    "a\nb: c",
    "- x",
    "{{ x }}",
    "%s",
    "$HOME",
    "$$(A)",
    "\u2028",
    "\x85",
    "\x1b[31m",
    "\t",
    " lead",
    "trail ",
    "é",
    "yes",
    "0x1f",
    "1e3",
    "~",
    "null",
    "<<",
    "=",
    "-",
    "#comment",
    "a: b",
    "!!python/object",
    "&a",
    "*a",
    "|",
    ">",
    "..",
    "../../etc/passwd",
    "--help",
    "x" * 300,
]
TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.text(
        alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40
    ),
)
# What a document may call a job or a model.
NAMES = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_letters + string.digits),
    st.text(alphabet=string.ascii_letters + string.digits + "._/:-", max_size=80),
)


def hostile(job: str, replica: str, stage: str, transfer: str, model: str) -> Case:
    placement = CpuPlacement(
        stage=stage, numa="numa1", cores=4, core_list="60-63", utilisation=0.1, latency=0.1
    )
    move = Transfer(name=transfer, source="numa0", target="gpu0", size=1.0, mode="managed", seconds=1.0)
    one = Replica(
        name=replica, node="node-0", devices=["node-0/gpu[0-3]"], stages=[placement], transfers=[move]
    )
    return Case(
        plan(serving_plan([one], name=job, model=model), name=model),
        topology(nodes("node-0")),
        workload(serving_job(job)),
    )


@given(job=NAMES, replica=TEXTS, stage=TEXTS, transfer=TEXTS, model=NAMES)
def test_no_name_breaks_a_manifest(job: str, replica: str, stage: str, transfer: str, model: str) -> None:
    """Objects stay valid whatever things are called, and the names arrive unchanged where they are values."""
    case = hostile(job, replica, stage, transfer, model)
    files = kubernetes_bundle(case.plan, case.topology, case.workload)
    for name in files:
        assert set(name) <= set(string.ascii_lowercase + string.digits + "-./C")  # chart/Chart.yaml
        assert ".." not in name
    objects = documents(files)
    assert len(objects) == 5
    for item in objects:
        validate_core(item, "1.36")
        for template in templates(item):
            validate_core(as_pod(template), "1.36")
    server, worker = containers(objects)
    assert environment(worker)["PLANNER_STAGE"] == stage
    assert f"--served-model-name={model}" in server["args"]


@needs_bash
@settings(max_examples=8)
@given(job=NAMES, replica=TEXTS, stage=TEXTS, transfer=TEXTS, model=NAMES)
def test_no_name_breaks_a_script(job: str, replica: str, stage: str, transfer: str, model: str) -> None:
    """Scripts parse whatever things are called, and a stage's process gets its name unchanged."""
    case = hostile(job, replica, stage, transfer, model)
    files = launch_files(case.plan, case.topology, case.workload)
    assert syntax_errors({name: text for name, text in files.items() if name.endswith(".sh")}) == {}
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), files)
        (script,) = (Path(folder) / "files").glob("*/*/stage-*.sh")
        shown = run(script).stdout.split("\n", 2)[2]
        assert f"PLANNER_STAGE={stage}\0" in shown


@needs_bash
@pytest.mark.parametrize("text", NASTY)
def test_known_tricks_stay_text(text: str, tmp_path: Path) -> None:
    """Substitutions, quotes, line breaks and options in a name are text to the shell."""
    case = hostile("job", text, text, text, "model")
    case = Case(case.plan, case.topology, workload(serving_job("job")))
    target = Target(programs={f"job/{text}": Program(arguments=(text,))})
    files = launch_files(case.plan, case.topology, case.workload, target)
    install(tmp_path, files)
    (script,) = (tmp_path / "files").glob("*/*/stage-*.sh")
    assert f"argument={text}\0" in run(script).stdout
    assert not list(tmp_path.rglob("pwned"))


def test_stage_of_the_workload_is_found_by_its_name() -> None:
    """Memory per worker comes from the stage that the plan names."""
    stage = CpuStage(name="decode", work=0.1, memory=5e9)
    case = hostile("job", "r", "decode", "t", "model")
    job = serving_job("job").model_copy(update={"before": [stage]})
    files = kubernetes_bundle(case.plan, case.topology, workload(job))
    _, worker = containers(documents(files))
    assert int(worker["resources"]["limits"]["memory"].removesuffix("Gi")) == 20


def test_null_characters_are_refused_with_a_reason() -> None:
    """A name with a null character can reach no process, and is refused rather than cut short."""
    case = hostile("job", "r", "a\0b", "t", "model")
    for write in (kubernetes_bundle, launch_files):
        with pytest.raises(DeployError, match="null character"):
            write(case.plan, case.topology, case.workload)
