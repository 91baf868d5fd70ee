import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench_outputs import facts, run
from planner.calibrate.importers import CollectiveTable, Matrix, OutputRefusedError, read, read_text


def collective(ranks: int = 4, sizes: int = 6, *, reduces: bool = True, header: bool = True) -> str:
    """Return a table as nccl-tests prints it, of rates that rise with the size."""
    share = (ranks - 1) / ranks * (2.0 if reduces else 1.0)
    lines = []
    if header:
        lines += [
            f"# nThread 1 nGpus {ranks} minBytes 1048576 maxBytes {2 ** (19 + sizes)} step: 2(factor) warmup"
        ]
        lines += ["#", "# Using devices"]
        lines += [f"#  Rank {r} Group  0 Pid 1 on host device  {r} [0x0{r}] Some GPU" for r in range(ranks)]
    half = "    time   algbw   busbw #wrong"
    lines += [f"#       size         count      type   redop    root {half} {half}"]
    rates = []
    for place in range(sizes):
        size = 2 ** (20 + place)
        time = 20.0 + size / 80e3
        cells = f"{time:8.2f} {size / time / 1e3:7.2f} {share * size / time / 1e3:7.2f}      0"
        rates.append(share * size / time / 1e3)
        lines.append(
            f"{size:12d} {size // 4:12d}     float  {'sum' if reduces else 'none'}      -1 {cells} {cells}"
        )
    lines += ["# Out of bounds values : 0 OK", f"# Avg bus bandwidth    : {np.mean(rates):.4f}", "#"]
    return "\n".join(lines) + "\n"


BANDWIDTH = """nvbandwidth Version: v0.8
Driver Version: 999.1

Device 0: Some GPU (00000000:01:00)
Device 1: Some GPU (00000000:02:00)

Running host_to_device_memcpy_ce.
memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0     50.25     40.50

SUM host_to_device_memcpy_ce 90.75

Waived:
Running device_to_device_memcpy_read_ce.
memcpy CE GPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0       N/A     30.00
 1     31.00       N/A

SUM device_to_device_memcpy_read_ce 61.00

Running host_device_latency_sm.
memory latency SM CPU(row) <-> GPU(column) (ns)
           0         1
 0    700.50    800.25

SUM host_device_latency_sm 1500.75
"""

PAIRS = """[P2P (Peer-to-Peer) GPU Bandwidth Latency Test]
Device: 0, Some GPU, pciBusID: 1, pciDeviceID: 0, pciDomainID:0
Device: 1, Some GPU, pciBusID: 2, pciDeviceID: 0, pciDomainID:0
Device=0 CANNOT Access Peer Device=1
Device=1 CANNOT Access Peer Device=0
P2P Connectivity Matrix
     D\\D     0     1
     0       1     0
     1       0     1
Unidirectional P2P=Disabled Bandwidth Matrix (GB/s)
   D\\D     0      1
     0 800.00   5.90
     1   5.80 801.00
P2P=Disabled Latency Matrix (us)
   GPU     0      1
     0   1.57  10.34
     1  18.51   1.67

   CPU     0      1
     0   1.85   5.92
     1   5.87   1.81
"""

SHMOO = """[CUDA Bandwidth Test] - Starting...
 Device 0: Some GPU
bandwidthTest-H2D-Pinned, Bandwidth = 0.4 GB/s, Time = 0.00000 s, Size = 1000 bytes, NumDevsUsed = 1
bandwidthTest-H2D-Pinned, Bandwidth = 12.5 GB/s, Time = 0.00400 s, Size = 50000000 bytes, NumDevsUsed = 1
Result = PASS
"""

COPIES = "cpu_to_gpu0_by_dma_under_numa0 25.5\ngpu0_to_cpu_by_dma_under_numa0 24.25\n"

TABLE = """| payload | 1 node | 2 nodes | slowdown |
| ---: | ---: | ---: | ---: |
| 1MiB | 30.00GBps | 5.00GBps | 6.0x |
| 1GiB | 400.00GBps | 200.00GBps | 2.0x |
"""

SAMPLES = (collective(), collective(8, 9, reduces=False), BANDWIDTH, PAIRS, SHMOO, COPIES, TABLE)


def test_a_collective_keeps_every_row_in_si_units() -> None:
    """Sizes in bytes, times in seconds, rates in bytes per second, ranks as listed."""
    output = read_text(collective(), "run.txt")
    table = output.blocks[0]
    assert isinstance(table, CollectiveTable)
    assert (table.operation, table.ranks, len(table.rows)) == ("all_reduce", 4, 6)
    assert table.rows[0].size == 2**20
    assert table.rows[0].time == pytest.approx((20.0 + 2**20 / 80e3) * 1e-6, rel=1e-3)
    assert output.warnings == ()
    assert output.devices == ("Some GPU",) * 4


@pytest.mark.parametrize("ranks", [3, 8, 16, 64])
def test_ranks_follow_from_the_bus_factor_where_nothing_lists_them(ranks: int) -> None:
    """2 (n - 1) / n is the ratio of the two rates; rounding of the printed rates leaves one n."""
    table = read_text(collective(ranks, 12, header=False), "run.txt").blocks[0]
    assert isinstance(table, CollectiveTable)
    assert table.ranks in ((ranks,) if ranks < 64 else (ranks, None))
    assert table.operation == "all_reduce"


def test_a_collective_that_cannot_be_told_is_said() -> None:
    """Two ranks have the bus factor of a plain reduction."""
    output = read_text(collective(2, header=False), "run.txt")
    assert any("all_reduce or reduce" in one for one in output.warnings)


def test_a_launchers_task_numbers_and_log_lines_are_passed_over_with_a_warning() -> None:
    """``srun --label`` numbers every line; NCCL logs between rows."""
    lines = collective().splitlines()
    lines.insert(-4, "host:12:12 [0] NCCL INFO Launch mode Parallel")
    output = read_text("\r\n".join("0: " + line for line in lines), "run.txt")
    table = output.blocks[0]
    assert isinstance(table, CollectiveTable)
    assert len(table.rows) == 6
    assert len(output.warnings) == 1 and "NCCL INFO" in output.warnings[0]


def test_a_cut_row_is_refused_with_its_line() -> None:
    """Half a row is no measurement."""
    lines = collective().splitlines()
    lines[9] = lines[9][:50]
    with pytest.raises(OutputRefusedError, match=r"run.txt:10: .*cut"):
        read_text("\n".join(lines), "run.txt")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# Avg bus bandwidth    : ", "# Avg bus bandwidth    : 9", "mean bus rate"),
        ("# Out of bounds values : 0 OK", "# Out of bounds values : 3 FAILED", "3 wrong results"),
        ("     2097152 ", "     2097159 ", "no multiple"),
    ],
)
def test_contradictions_in_a_table_are_said(old: str, new: str, said: str) -> None:
    """The mean, the tool's own verdict and the steps of the sizes."""
    text = collective()
    assert old in text
    assert any(said in one for one in read_text(text.replace(old, new), "run.txt").warnings)


def test_a_missing_row_is_said() -> None:
    """The mean and the steps betray it."""
    lines = collective().splitlines()
    del lines[11]
    assert read_text("\n".join(lines), "run.txt").warnings


def test_json_of_a_run_gives_the_same_table_with_percentiles() -> None:
    """The report of ``-J`` holds the same figures, and those of single iterations on request."""
    half = {"time": 100.0, "alg_bw": 10.48576, "bus_bw": 15.72864, "nwrong": 0, "p50": 99.0, "p99": 130.0}
    body = {
        "args": ["build/all_reduce_perf", "-J", "out.json"],
        "nccl_version": 22809,
        "config": {"devices": [{"device_info": "Some GPU"}] * 4},
        "results": [
            {"size": 1048576, "count": 262144, "type": "float", "redop": "sum", "out_of_place": half}
        ],
        "average_bus_bandwidth": {"bandwidth": 15.72864},
    }
    output = read_text(json.dumps(body), "out.json")
    table = output.blocks[0]
    assert isinstance(table, CollectiveTable)
    assert (table.operation, table.ranks) == ("all_reduce", 4)
    assert table.rows[0].percentiles["p99"] == pytest.approx(130e-6)
    assert output.warnings == ()


def test_matrices_keep_what_was_not_measured_apart() -> None:
    """N/A is not a number and gives no sample; latencies are seconds."""
    output = read_text(BANDWIDTH, "nvb.txt")
    first, second, third = (block for block in output.blocks if isinstance(block, Matrix))
    assert first.values.tolist() == [[50.25e9, 40.5e9]]
    assert np.isnan(second.values[0, 0]) and second.values[1, 0] == 31e9
    assert third.unit == "s" and third.values[0, 1] == pytest.approx(800.25e-9)
    assert len(list(output.samples())) == 6
    assert output.waived == ("Waived:",)
    assert output.warnings == ()


def test_a_changed_cell_contradicts_its_sum() -> None:
    """The tool prints the sum of each matrix."""
    warnings = read_text(BANDWIDTH.replace("50.25", "80.25"), "nvb.txt").warnings
    assert len(warnings) == 1 and "sum 90.75" in warnings[0]


def test_cells_of_more_devices_than_listed_are_doubted() -> None:
    """A fixture widened by hand is not a measurement of that machine."""
    assert read_text(BANDWIDTH.replace("Device 1:", "Remark:"), "nvb.txt").warnings


def test_a_matrix_without_rows_is_refused() -> None:
    """The end of the file is missing."""
    with pytest.raises(OutputRefusedError, match="cut"):
        read_text(BANDWIDTH[: BANDWIDTH.index(" 0    700.50")], "nvb.txt")


def test_json_cells_are_strings_and_waived_tests_have_none() -> None:
    """A single cell takes the digits of its sum."""
    body = {
        "nvbandwidth": {
            "Driver Version": "999.1",
            "testcases": [
                {"name": "host_to_device_memcpy_ce", "status": "Passed", "sum": 12.396361,
                 "bandwidth_description": "CPU(row) -> GPU(column) bandwidth (GB/s) ",
                 "bandwidth_matrix": [["12.3964"]]},
                {"name": "device_to_device_memcpy_read_ce", "status": "Waived"},
            ],
        }
    }  # fmt: skip
    found = facts(read_text(json.dumps(body), "nvb.json"))
    assert found["h2d_ce"] == pytest.approx(12.396361)
    assert (found["testcases"], found["passed"], found["waived"]) == (2, 1, 1)


def test_pairs_give_a_matrix_per_clock() -> None:
    """Connectivity, bandwidth, and latencies by GPU and by CPU."""
    output = read_text(PAIRS, "p2p.txt")
    assert [block.name for block in output.blocks if isinstance(block, Matrix)] == [
        "P2P Connectivity Matrix",
        "Unidirectional P2P=Disabled Bandwidth Matrix",
        "P2P=Disabled Latency Matrix GPU",
        "P2P=Disabled Latency Matrix CPU",
    ]
    assert output.warnings == ()
    assert facts(output)["matrices"] == 3


def test_connectivity_that_contradicts_the_list_is_said() -> None:
    """The tool says twice who reaches whom."""
    warnings = read_text(PAIRS.replace("0       1     0", "0       1     1"), "p2p.txt").warnings
    assert len(warnings) == 1 and "contradicts" in warnings[0]


def test_a_sweep_and_named_copies() -> None:
    """Rates in bytes per second; a sweep without its last line is doubted."""
    assert [sample.rate for sample in read_text(SHMOO, "bw.log").samples()] == [0.4e9, 12.5e9]
    assert read_text(SHMOO.replace("Result = PASS\n", ""), "bw.log").warnings
    assert read_text(SHMOO.replace("0.00400", "0.00800"), "bw.log").warnings
    assert next(iter(read_text(COPIES, "copy.log").samples())).rate == 25.5e9
    assert read_text(COPIES.splitlines()[0], "copy.log").warnings


def test_a_table_of_rates_by_payload() -> None:
    """Sizes are binary, rates decimal, the ratio column is checked."""
    samples = list(read_text(TABLE, "table.md").samples())
    assert [(one.size, one.place, one.rate) for one in samples[:2]] == [
        (2.0**20, "1 node", 30e9),
        (2.0**20, "2 nodes", 5e9),
    ]
    assert read_text(TABLE.replace("5.00GBps", "4.00GBps"), "table.md").warnings


@pytest.mark.parametrize("text", ["", "hello\n", "{", '{"a": 1}', "[" * 100_000, '{"results": []}'])
def test_what_no_tool_printed_is_refused(text: str) -> None:
    """With the list of what can be read, never with another exception."""
    with pytest.raises(OutputRefusedError):
        read_text(text, "x")


def mutated(text: str, seed: int) -> str:
    """Return the text with a line dropped, cut, doubled, or a word swapped, or the whole text cut."""
    dice = random.Random(seed)
    lines = text.splitlines()
    place = dice.randrange(len(lines))
    words = lines[place].split(" ")
    match dice.randrange(6):
        case 0:
            del lines[place]
        case 1:
            lines[place] = lines[place][: dice.randrange(len(lines[place]) + 1)]
        case 2:
            lines.insert(place, lines[place])
        case 3:
            words[dice.randrange(len(words))] = dice.choice(["", "N/A", "1e999", "-5", "nan", "x" * 50, "\t"])
            lines[place] = " ".join(words)
        case 4:
            del lines[place:]
        case _:
            other = dice.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
    return "\n".join(lines)


@given(st.sampled_from(SAMPLES), st.integers(0, 10**9))
def test_damaged_outputs_raise_nothing_but_refusals(text: str, seed: int) -> None:
    """Whatever happens to the text: figures, or a refusal; and no figure is infinite."""
    try:
        output = read_text(mutated(text, seed), "damaged")
    except OutputRefusedError:
        return
    assert all(np.isfinite(one.rate if one.rate is not None else one.time or 0.0) for one in output.samples())


@pytest.mark.reference
def test_recorded_outputs_give_the_figures_of_their_truth(shared_data: Path) -> None:
    """Every recorded file, to the last digit; what is odd about them is said."""
    cases = run(shared_data / "bench-outputs")
    assert [case.file for case in cases if not case.exact] == []
    assert read(shared_data / "bench-outputs" / "nvbandwidth_gh200_v0.6_testfixture.log").warnings
