"""Damaged dumps: no error but a typed one, and nothing that differs from the truth without a remark."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.topology_damage import double_line, drop_line
from planner.errors import PlannerError
from planner.topology.importers.detect import read_text
from planner.topology.importers.views import FabricView, HostView
from tests.topology.importers.samples import NCCL, NVLINK, TOPO, query

SAMPLES = {"topo": TOPO, "query": query(), "nccl": NCCL, "nvlink": NVLINK}
HUGE = "9" * 40


def statement(view: HostView | FabricView) -> object:
    """Return what a view says of the machine."""
    assert isinstance(view, HostView)
    return (
        view.gpus, view.nics, view.numa, dict(view.gpu_links), view.link_kind, view.link_rate,
        dict(view.switch_links), dict(view.path_classes), dict(view.bridges), view.unknown_functions,
        view.arch, view.vendor, view.cpu, view.driver,
    )  # fmt: skip


def drop_cell(text: str, rng: random.Random) -> str:
    """Drop one word."""
    words = list(re.finditer(r"\S+", text))
    match = rng.choice(words)
    return text[: match.start()] + text[match.end() :]


def swap_cells(text: str, rng: random.Random) -> str:
    """Swap two words of one line."""
    lines = text.split("\n")
    number = rng.choice([index for index, line in enumerate(lines) if len(line.split()) > 1])
    words = re.split(r"(\s+)", lines[number])
    left, right = rng.sample([index for index, word in enumerate(words) if word.strip()], 2)
    words[left], words[right] = words[right], words[left]
    lines[number] = "".join(words)
    return "\n".join(lines)


def cut(text: str, rng: random.Random) -> str:
    """Cut the text inside a line; a cut between two lines may leave a smaller but whole dump."""
    place = rng.randrange(len(text))
    return text[:place].rstrip("\r\n")


def huge(text: str, rng: random.Random) -> str:
    """Put a huge number in place of one."""
    match = rng.choice(list(re.finditer(r"[0-9]+", text)))
    return text[: match.start()] + HUGE + text[match.end() :]


def junk(text: str, rng: random.Random) -> str:
    """Put a few characters of any kind anywhere."""
    place = rng.randrange(len(text))
    return (
        text[:place]
        + "".join(chr(rng.choice([0, 7, 34, 38, 60, 62, 0xFEFF, 0x1F600])) for _ in range(3))
        + text[place:]
    )


def blanks(text: str, rng: random.Random) -> str:
    """Change line ends, tabs, blanks and the byte-order mark."""
    text = text.replace("\n", "\r\n") if rng.random() < 0.5 else text
    text = text.replace("\t", " " * rng.randint(1, 9)) if rng.random() < 0.5 else text
    return "\ufeff" + text if rng.random() < 0.5 else text


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    drop_cell, swap_cells, drop_line, double_line, cut, huge, junk, blanks,
)  # fmt: skip


@pytest.mark.parametrize("kind", SAMPLES)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 2))
@settings(max_examples=250)
def test_damage_is_refused_or_remarked_or_harmless(kind: str, seed: int, steps: int) -> None:
    """A damaged dump is refused with a typed error, or read as before, or read with a remark."""
    rng = random.Random(seed)
    truth = statement(read_text(SAMPLES[kind], kind))
    text = SAMPLES[kind]
    for _ in range(steps):
        if len(text.split()) > 4 and re.search("[0-9]", text):
            text = rng.choice(MUTATIONS)(text, rng)
    try:
        view = read_text(text, kind)
    except PlannerError:
        return
    assert view.remarks or statement(view) == truth


@pytest.mark.parametrize("kind", ["query", "nccl"])
def test_expansion_attacks_are_refused(kind: str) -> None:
    """Entities are refused before they are expanded."""
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(9)
    )
    text = SAMPLES[kind]
    start = text.index("<nvidia_smi_log" if kind == "query" else "<system")
    with pytest.raises(PlannerError):
        read_text(bomb + "]>" + text[start:], kind)
