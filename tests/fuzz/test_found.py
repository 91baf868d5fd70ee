"""What the search found once stays mended: each file is read or refused, soon and with a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.calibrate import test_imported, test_importers
from tests.fuzz import seeds
from tests.fuzz.readers import READERS
from tests.fuzz.test_readers import fault
from tests.topology.importers import samples_fabric, samples_host

DIGITS = "9" * 5000
REQUESTS = "arrived_at,num_prefill_tokens,num_decode_tokens\n"
NODE = "---\n" + seeds.MANIFESTS.split("---\n")[1]
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: {{{}}}\n"
TEMPLATE = "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}"
SELECTOR = "selector: {matchLabels: {a: b}}"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 8)}]\n" for level in range(1, 12)
)

FOUND: list[tuple[str, Callable[[], str | bytes]]] = [
    ("requests", lambda: f"{REQUESTS}0.5,1e308,10\n"),
    ("requests", lambda: f"{REQUESTS}0.5,7\xff,10\n".encode("latin-1")),
    ("requests", lambda: f"{REQUESTS}0.5,{'1' * 200_000},10\n"),
    ("flows", lambda: '{"format": ' + DIGITS + "}"),
    ("flows", lambda: "[" * 100_000),
    ("benchmark outputs", lambda: test_imported.NCCL.replace("time", "tim")),
    ("benchmark outputs", lambda: test_imported.NCCL.replace("36.70", "0.00").replace("73.40", "0.00")),
    ("benchmark outputs", lambda: test_importers.TABLE.replace("GBps", ".2.0GBps")),
    ("benchmark outputs", lambda: test_importers.TABLE.replace("x |", ".6.0x |")),
    ("imported samples", lambda: test_imported.NCCL.replace(" 1048576 ", " 1e400 ")),
    ("imported samples", lambda: test_importers.SHMOO.replace("12.5", "1e-320")),
    ("host dumps", lambda: samples_host.NUMACTL.replace("65536", DIGITS)),
    ("host dumps", lambda: samples_host.LSCPU + samples_host.LSCPU_TABLE + f"{DIGITS},0,0,0\n"),
    (
        "fabric dumps to topology",
        lambda: samples_fabric.rail_fabric(["node-0", "node-1"], 2).replace("4xNDR", ""),
    ),
    ("fabric dumps", lambda: samples_host.OLD_TOPOGRAPH.replace("switches:\n", "switches:\n- [a]\n")),
    ("measured runs", lambda: seeds.ROWS.replace(",2048,64,", ",2048,inf,")),
    ("measured runs", lambda: seeds.ROWS.replace(",1,8,8,", ",1,0,8,")),
    ("measured runs", lambda: seeds.SERVED.replace(",60,9.5,", ",60,1e-320,")),
    ("measured runs", lambda: seeds.SERVED.replace(",1024,256,", ",no,256,")),
    ("measured runs", lambda: seeds.SERVED.replace(",1024,256,", ",0,256,")),
    ("manifests", lambda: DEPLOYMENT.format("replicas: 2") + NODE),
    ("manifests", lambda: DEPLOYMENT.format(f"replicas: 1000000000, {SELECTOR}, {TEMPLATE}") + NODE),
    ("manifests", lambda: f"{LAUGHS}kind: Pod\nmetadata: {{name: a, labels: *a11}}\nspec: *a11\n"),
    ("manifests", lambda: "kind: Pod\nmetadata: &a {name: a, labels: *a}\nspec: &b [*b]\n"),
    ("manifests", lambda: "[" * 100_000),
    ("embedding tables", lambda: "," * 1_000_000),
    ("study", lambda: seeds.STUDY.replace("dgx-h100", "d" * 4000)),
    ("server's answer", lambda: '{"status": "success", "data": []}'),
    ("server's answer", lambda: '{"status": "success", "data": {"resultType": "vector", "result": [1]}}'),
    ("server's answer", lambda: '{"status": "success", "data": ' + DIGITS + "}"),
]


@pytest.mark.parametrize(("name", "made"), FOUND)
def test_no_fault_comes_back(name: str, made: Callable[[], str | bytes], tmp_path: Path) -> None:
    """The file is read, or refused with an error of the program, within 5 s of processor time."""
    path = tmp_path / READERS[name].name
    data = made()
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert fault(READERS[name], path) is None
