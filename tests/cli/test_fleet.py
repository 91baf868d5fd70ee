"""Many jobs on one cluster and offers at a price, as a user runs them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from planner.cli import cli
from tests.cli.documents import MACHINE, SERVICE, TRAINING, only_json

FLEET = (
    SERVICE
    + TRAINING.split("jobs:\n", 1)[1]
    + SERVICE.split("jobs:\n", 1)[1].replace("name: chat", "name: talk")
)
"""Two services and a training job: three jobs for the two GPUs of the machine."""
STAGE = "  before:\n  - {name: tokenise, work: 2 ms, bytes_in: 2 kB, bytes_out: 2 kB}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a small machine, one job and several, made the current one."""
    texts = {"machine.yaml": MACHINE, "train.yaml": TRAINING, "jobs.yaml": FLEET}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, list(arguments))


def test_a_fleet_names_who_gets_what_and_who_gets_nothing(folder: Path) -> None:
    """Three jobs that need a GPU each do not fit on two; text, JSON and CSV agree on the one left out."""
    arguments = ["fleet", "machine.yaml", "jobs.yaml", "-o", "jobs.csv"]
    seen = only_json(run(*arguments, "--json").output)
    (unplaced,) = seen["unplaced"]
    rows = list(csv.DictReader((folder / "jobs.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["job"] for row in rows if row["placed"] == "False"] == [unplaced]
    gpus = [row["gpus"] for row in rows if row["placed"] == "True"]
    assert sorted(gpus) == ["gpu0", "gpu1"]
    assert seen["bound"] <= seen["cost"] <= min(seen["baselines"].values()) * (1 + 1e-9)
    assert set(seen["baselines"]) == {"first fit", "best fit", "greedy"}
    again = run(*arguments)
    assert again.exit_code == 1
    assert "--force" in again.output
    text = run(*arguments, "--force")
    assert text.exit_code == 0
    assert f"2 of 3 jobs placed; no place for {unplaced}" in text.output


def test_the_manifests_of_a_fleet_hold_its_placed_jobs(folder: Path) -> None:
    """The bundle has the workloads of the placed jobs and no other, in one slice or GPU each."""
    plain = FLEET.replace(STAGE, "").replace("rate: 2 req/s", "rate: 0.5 req/s")
    assert plain.count("before") == 0
    (folder / "plain.yaml").write_text(plain, encoding="utf-8")
    seen = run("fleet", "machine.yaml", "plain.yaml", "--manifests", "k8s", "-o", "jobs.csv")
    assert seen.exit_code == 0, seen.output
    rows = list(csv.DictReader((folder / "jobs.csv").read_text(encoding="utf-8").splitlines()))
    placed = {row["job"] for row in rows if row["placed"] == "True"}
    assert f"Manifests of {len(placed)} jobs written to k8s/" in seen.output
    assert {path.name for path in (folder / "k8s" / "base").iterdir() if path.is_dir()} == placed
    texts = [path.read_text(encoding="utf-8") for path in (folder / "k8s" / "base").rglob("deployment.yaml")]
    cut = [row["slice"] for row in rows if row["slice"]]
    assert cut
    assert sum("nvidia.com/mig-" in text for text in texts) == len(cut)


def test_manifests_of_a_fleet_are_refused_with_a_reason(folder: Path) -> None:
    """CPU stages have no cores of their own in a fleet, and a target alone says nothing."""
    seen = run("fleet", "machine.yaml", "jobs.yaml", "--manifests", "k8s")
    assert seen.exit_code == 1
    assert "counts the cores of CPU stages" in seen.output
    assert not (folder / "k8s").exists()
    (folder / "target.yaml").write_text("schema: target/1\n", encoding="utf-8")
    alone = run("fleet", "machine.yaml", "jobs.yaml", "--target", "target.yaml")
    assert alone.exit_code == 2
    assert "add --manifests FOLDER" in alone.output


def test_offers_have_the_prices_that_were_given(folder: Path) -> None:
    """A machine priced on the command line has one offer, which the budget finds and the CSV holds."""
    arguments = ["pareto", "machine.yaml", "train.yaml", "--price", "box=12.5", "--budget", "20"]
    seen = only_json(run(*arguments, "-o", "offers.csv", "--json").output)
    (offer,) = seen["offers"]
    assert offer["price_usd_per_hour"] == 12.5
    assert offer["on_front"]
    assert offer["usd_per_value"] == pytest.approx(12.5 * offer["value_s"] / 3600.0)
    assert list(seen["chosen"].values()) == [offer]
    assert "12.50" in run(*arguments).output
    rows = list(csv.DictReader((folder / "offers.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["value_s"]) for row in rows] == [offer["value_s"]]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 1, "states a 'price'"),
        (["--price", "crate=1"], 1, "it has box"),
        (["--price", "box"], 2, "MACHINE=USD_PER_HOUR"),
        (["--price", "box=-1"], 2, "MACHINE=USD_PER_HOUR"),
        (["--price", "box=1", "--job", "nobody"], 1, "it has train"),
        (["--price", "box=1", "--within", "1ms"], 3, "fastest takes"),
        (["--price", "box=10", "--budget", "1"], 3, "cheapest costs 10"),
    ],
)
def test_what_cannot_be_priced_is_refused_with_a_reason(arguments: list[str], code: int, text: str) -> None:
    """Missing prices, unknown machines and jobs, and limits out of reach end with their exit codes."""
    result = run("pareto", "machine.yaml", "train.yaml", *arguments)
    assert result.exit_code == code, result.output
    assert text in result.output
