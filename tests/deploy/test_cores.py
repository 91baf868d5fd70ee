import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.deploy import DeployError
from planner.deploy.cores import domain_cores, domain_number, parse_cores
from planner.placement.bindings import as_core_list
from tests.deploy.plans import machine, nodes, topology


@given(st.frozensets(st.integers(0, 4000)))
def test_lists_of_cores_read_back(cores: frozenset[int]) -> None:
    """What is shown reads back as the same cores."""
    assert parse_cores(as_core_list(cores)) == cores


def test_lists_are_as_short_as_can_be() -> None:
    """Runs are folded, single cores are not."""
    assert as_core_list([3, 1, 2, 7, 9, 10]) == "1-3,7,9-10"
    assert as_core_list([]) == ""


@pytest.mark.parametrize("text", ["x", "3-1", "1;2", "-4", "0-9999999", "1-2-3"])
def test_other_texts_are_refused(text: str) -> None:
    """A text that the operating system would not take as a list of cores is named."""
    with pytest.raises(DeployError, match="is not a list of cores"):
        parse_cores(text)


def test_domains_count_their_cores_where_no_list_is_stated() -> None:
    """Cores are counted up over the domains, which are numbered by the digits that end their names."""
    box = topology(nodes("n-0"), machines=[machine(cores=4)]).nodes[0].machine
    assert {name: as_core_list(cores) for name, cores in domain_cores(box).items()} == {
        "numa0": "0-3",
        "numa1": "4-7",
    }
    assert [domain_number(box, name) for name in ("numa0", "numa1")] == [0, 1]
