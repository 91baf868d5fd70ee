"""Models named in rows of measured training runs: a table of architectures, the row itself, or presets."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from planner.errors import WorkloadError, nearest
from planner.workload import Experts, LatentAttention, Transformer
from planner.workload.models import StateSpace
from planner.workload.resolve import model_presets

Row = Mapping[str, str]
GPT_VOCAB = 51200
"""Rows of the GPT-2 vocabulary, padded as Megatron does, where none is stated."""
GPT_HEAD = 64
"""Width of a head where the number of heads is not stated."""


def architectures(folder: Path | None) -> dict[str, Transformer]:
    """Return the models by name: shipped presets, and those of ``architectures.csv`` in a folder."""
    found = dict(model_presets())
    path = None if folder is None else folder / "architectures.csv"
    if path is not None and path.is_file():
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                model = from_row(row, row["model"])
                if model is not None:
                    found[row["model"]] = model
    return found


def model_of(row: Row, known: Mapping[str, Transformer]) -> Transformer:
    """Return the model of a row: its dimensions where it states them, else by name.

    Raises
    ------
    WorkloadError
        If the name is unknown and dimensions are missing.
    """
    if row.get("hidden"):
        model = from_row(row, row.get("model") or "row")
        if model is not None:
            return model
    name = row.get("model", "")
    try:
        return known[name]
    except KeyError:
        close = nearest(name, known)
        hint = f"; did you mean {close!r}?" if close else ""
        raise WorkloadError(
            f"no model is called {name!r}{hint}; put its shape into architectures.csv beside the rows"
        ) from None


def from_row(row: Row, name: str) -> Transformer | None:
    """Return the model that the columns of a row describe, ``None`` where its depth or width is missing."""
    layers, hidden = _count(row, "layers"), _count(row, "hidden")
    if not layers or not hidden:
        return None
    notes = row.get("notes", "")
    heads = _count(row, "heads") or max(1, hidden // GPT_HEAD)
    experts, hybrid = _experts(row, notes), _state_space(notes, layers)
    layers, space = (layers, None) if hybrid is None else hybrid
    return Transformer(
        name="".join(c if c.isalnum() or c in "._-" else "-" for c in name) or "row",
        layers=layers,
        hidden=hidden,
        ffn=_count(row, "ffn") or 4 * hidden,
        heads=heads,
        kv_heads=_count(row, "kv_heads") or heads,
        head_dim=_count(row, "head_dim") or max(1, hidden // heads),
        vocab=_count(row, "vocab") or GPT_VOCAB,
        gated=row.get("gated_mlp", "0") == "1",
        tied_embeddings=row.get("gated_mlp", "0") != "1",
        learned_positions=2048 if "learned positions" in notes else 0,
        latent=_latent(notes),
        experts=experts,
        state_space=space,
    )


def _count(row: Row, name: str) -> int:
    return int(float(row.get(name) or 0))


def _after(notes: str, word: str) -> int:
    """Return the number that follows a word in the notes, 0 where there is none."""
    rest = notes.partition(word)[2].strip(" ()=")
    digits = rest.split()[0].strip(";,)") if rest.split() else ""
    return int(digits) if digits.isdigit() else 0


def _experts(row: Row, notes: str) -> Experts | None:
    count = _count(row, "experts")
    if not count:
        return None
    ffn = _count(row, "moe_ffn") or _count(row, "ffn")
    shared = (_after(notes, "shared expert ffn") or ffn) if _count(row, "shared_experts") else 0
    first = 3 if "first 3 layers dense" in notes else int("first layer dense" in notes)
    return Experts(
        num_experts=count, top_k=_count(row, "topk") or 1, ffn=ffn, shared_ffn=shared, first_dense=first,
        latent=_after(notes, "latent-MoE (latent") or _after(notes, "MoE (latent"),
    )  # fmt: skip


def _latent(notes: str) -> LatentAttention | None:
    if "MLA" not in notes:
        return None
    return LatentAttention(
        q_rank=_after(notes, "q_lora") or 1536,
        kv_rank=_after(notes, "kv_lora") or 512,
        nope_dim=_after(notes, "nope") or 128,
        rope_dim=_after(notes, "rope") or 64,
        value_dim=_after(notes, " v ") or 128,
    )


def _state_space(notes: str, layers: int) -> tuple[int, StateSpace] | None:
    """Return the number of expert layers and the mixers before each, of a hybrid model.

    The notes give the pattern (M mixer, ``*`` attention, E experts); where they do not, one attention block
    goes with five mixers and six expert layers, as in Nemotron-H.
    """
    if "mamba heads" not in notes:
        return None
    pattern = notes.partition("pattern ")[2].split(";")[0].strip()
    counts = {kind: pattern.count(kind) for kind in "M*E"}
    if not counts["E"]:
        attention = max(1, layers // 12)
        counts = {"*": attention, "M": (layers - attention) // 2, "E": (layers - attention) // 2}
    experts = counts["E"]
    space = StateSpace(
        heads=_after(notes, "mamba heads"), head_dim=_after(notes, " dim") or 64,
        state=_after(notes, "state") or 128, groups=_after(notes, "groups") or 8,
        per_layer=counts["M"] / experts, attention_per_layer=counts["*"] / experts,
    )  # fmt: skip
    return experts, space
