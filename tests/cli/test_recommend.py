"""``planner recommend`` as a user types it: the answer, its files, a second run that solves nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from planner.cli import cli
from tests.study.recommend.clusters import write_blocks


def _recommend(folder: Path, *options: str) -> Result:
    one, two, service = write_blocks(folder)
    blocks = f"{one}:2,{two}:1"
    common = ["-o", str(folder / "out"), "--processes", "1", "--requests", "300"]
    return CliRunner().invoke(cli, ["recommend", str(service), "--blocks", blocks, *common, *options])


def test_the_smallest_cluster_is_named_with_its_proof_and_not_solved_twice(tmp_path: Path) -> None:
    """At nine times the load one GPU is refused; two GPUs hold; files and JSON say the same."""
    result = _recommend(tmp_path, "--load", "9x")
    assert result.exit_code == 0, result.output
    assert "1 x two (2 GPUs) is the cluster of the fewest GPUs" in result.stdout
    assert "the only smaller one was refused" in result.stdout
    with (tmp_path / "out" / "clusters.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["cluster"]: row["verdict"] for row in rows} == {
        "1 x one": "refused", "2 x one": "holds", "1 x two": "holds",
    }  # fmt: skip
    (best,) = [row for row in rows if row["recommended"] == "True"]
    low, value, high = (float(best[f"chat.tpot_p99{end}"]) for end in ("_low", "", "_high"))
    assert low <= value <= high
    assert value <= 0.006
    for name in ("sizes", "limits"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    check = CliRunner().invoke(cli, ["check", str(tmp_path / "out" / "topology-9x.yaml")])
    assert check.exit_code == 0, check.output
    again = json.loads(_recommend(tmp_path, "--load", "9x", "--json").stdout)
    assert again["counts"] == {"scenarios": 3, "solved": 0, "simulated": 0, "reused": 3}
    (answer,) = again["loads"]
    assert answer["recommended"] == "1 x two"
    assert answer["proven"] is True
    assert answer["runner_up"] == "2 x one"


def test_the_cheapest_needs_prices_and_nothing_that_holds_is_infeasible(tmp_path: Path) -> None:
    """Without prices the cost is not known; a load beyond every cluster ends with exit code 3."""
    missing = _recommend(tmp_path, "--by", "cost", "--price", "one=4")
    assert missing.exit_code == 1
    assert "price of two is not known" in missing.stderr
    over = _recommend(tmp_path, "--load", "90x", "--max-nodes", "1")
    assert over.exit_code == 3
    assert "none of the 2 clusters" in over.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--load", "4x..1x"], "is not a load"),
        (["--load", "many"], "is not a load"),
        (["--price", "three=4"], "not among --blocks"),
        (["--price", "one=free"], "USD_PER_HOUR"),
    ],
)
def test_wrong_options_are_usage_errors(tmp_path: Path, options: list[str], said: str) -> None:
    """What cannot be read is said before anything is solved."""
    result = _recommend(tmp_path, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()
