"""Exports of hwloc 1, 2 and 3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.topology.importers.hwloc_objects import bitmap, bits
from planner.topology.importers.hwloc_xml import read_hwloc
from planner.topology.importers.pci_roles import Role, role
from planner.topology.importers.refusal import ImportRefusedError
from tests.topology.importers.samples_host import OLD_HWLOC, VGA, hwloc

GPU_MEMORY = """<object type="NUMANode" os_index="7" cpuset="0x0000000c" nodeset="0x00000080" gp_index="90"
 local_memory="102005473280" subtype="GPUMemory"><info name="PCIBusID" value="0000:28:00.0"/></object>
"""
SWITCHES = "".join(
    f'<object type="PCIDev" gp_index="{80 + n}" subtype="NVSwitch" pci_busid="0000:6{n}:00.0"'
    ' pci_type="0680 [10de:1ac2] [0:0] a1" pci_link_speed="1.0"/>\n'
    for n in range(2)
)


@given(st.sets(st.integers(0, 400), max_size=40))
def test_sets_of_processors_are_read_word_by_word(numbers: set[int]) -> None:
    """A mask of 32-bit words, empty where zero as hwloc writes them, gives back its numbers."""
    mask = sum(1 << number for number in numbers)
    words = [mask >> 32 * place & 0xFFFFFFFF for place in range(12, -1, -1)]
    while len(words) > 1 and not words[0]:
        words.pop(0)
    text = ",".join(f"0x{word:08x}" if word else "" for word in words[:-1])
    text = f"{text},0x{words[-1]:x}" if len(words) > 1 else f"0x{words[-1]:08x}"
    found = bitmap(text)
    assert found is not None and set(bits(found)) == numbers


def test_the_whole_host_is_read() -> None:
    """Packages, cores, processors, nodes with memory and distances, GPUs with bridges and links."""
    view = read_hwloc(hwloc(), "host.xml")
    assert (view.packages, view.cores, view.processors, view.arch) == (2, 4, 4, "x86_64")
    assert [(node.number, node.cpus, node.package) for node in view.numa] == [(0, (0, 1), 0), (1, (2, 3), 1)]
    assert view.numa[0].memory == 64 * 2.0**30 and view.numa[1].distances == {0: 21.0, 1: 10.0}
    gpus = [(gpu.name, gpu.bus_id, gpu.product, gpu.numa) for gpu in view.gpus]
    assert gpus == [
        ("GPU0", "0000:18:00.0", "Tesla V100-SXM2-32GB", 0),
        ("GPU1", "0000:28:00.0", "Tesla V100-SXM2-32GB", 1),
    ]
    assert view.gpus[0].memory == 33292288 * 1024.0
    assert view.bridges["0000:28:00.0"] == ("0000:27:00.0",)
    assert view.gpu_links == {("GPU0", "GPU1"): 2} and view.link_kind == "nvlink" and view.link_rate == 25e9
    assert view.functions["0000:18:00.0"].devices == ("cuda0", "nvml0") and view.remarks == ()


def test_console_chips_are_no_gpus_and_adapters_are_found() -> None:
    """An ES1000 is a display; an InfiniBand adapter keeps the name of its verbs device."""
    view = read_hwloc(hwloc(extra=VGA), "host.xml")
    assert view.displays == ("0000:03:00.0",) and len(view.gpus) == 2
    assert [(nic.name, nic.bus_id, nic.numa, nic.ports) for nic in view.nics] == [
        ("mlx5_0", "0000:04:00.0", 1, 1)
    ]


def test_memory_of_gpus_is_no_host_node() -> None:
    """A node of subtype GPUMemory has no processors, though hwloc gives it those next to it."""
    text = hwloc(extra=GPU_MEMORY).replace('nodeset="0x00000003"', 'nodeset="0x00000083"')
    view = read_hwloc(text, "host.xml")
    node = view.numa[-1]
    assert (node.number, node.cpus, node.device_memory) == (7, (), True)
    assert view.gpus[1].memory_numa == 7 and view.gpus[1].numa == 1 and view.subtypes == {7: "GPUMemory"}


def test_links_to_nvswitches_are_counted() -> None:
    """The hetero matrix between GPUs and NVSwitches gives the links to switches."""
    matrix = """<distances2hetero nbobjs="4" kind="25" name="NVLinkBandwidth">
<indexes length="1">OSDev:504 OSDev:604 PCIDev:80 PCIDev:81 </indexes>
<u64values length="1">0 0 25000 25000 0 0 25000 50000 25000 25000 0 0 25000 50000 0 0 </u64values>
</distances2hetero>
"""
    view = read_hwloc(hwloc(extra=SWITCHES, distances=matrix), "host.xml")
    assert view.switch_links == {"GPU0": 2, "GPU1": 3} and view.gpu_links == {}
    assert view.nvswitches == ("0000:60:00.0", "0000:61:00.0")
    assert view.peer_rates["GPU1", "NVSwitch"] == 75e9


def test_xgmi_bandwidth_tells_pairs_but_no_counts() -> None:
    """Between AMD GPUs a rate is known, the number of links is not."""
    text = hwloc().replace("NVLinkBandwidth", "XGMIBandwidth").replace("10de:1db5", "1002:740c")
    view = read_hwloc(text, "host.xml")
    assert view.peer_rates == {("GPU0", "GPU1"): 50e9} and view.gpu_links == {} and view.link_kind == "xgmi"
    assert any("count is unknown" in remark.text for remark in view.remarks)


def test_an_ambiguous_link_rate_leaves_the_count_open() -> None:
    """50 GB/s are two links of one generation or one of another; without a known product it stays open."""
    view = read_hwloc(hwloc().replace("10de:1db5", "10de:7fff"), "host.xml")
    assert view.gpu_links == {} and view.peer_rates == {("GPU0", "GPU1"): 50e9} and view.remarks


def test_memory_attributes_keep_targets_and_initiators() -> None:
    """Values of attributes name their NUMA node."""
    extra = """</distances2><memattr name="Bandwidth" flags="5">
<memattr_value target_obj_type="NUMANode" target_obj_gp_index="21" value="20" initiator_cpuset="0x3"/>
</memattr>"""
    view = read_hwloc(hwloc().replace("</distances2>", extra, 1), "host.xml")
    assert [(one.name, one.values[0].target, one.values[0].value) for one in view.memory_attributes] == [
        ("Bandwidth", 1, 20)
    ]


def test_an_export_of_hwloc_1_is_read() -> None:
    """Sockets inside NUMA nodes, distances as multiples of a base, the memory of a GPU on POWER9."""
    view = read_hwloc(OLD_HWLOC, "old.xml")
    assert (view.version, view.packages, view.cores, view.processors) == ("1", 2, 2, 4)
    assert [(node.number, node.cpus, node.device_memory) for node in view.numa] == [
        (0, (0, 1), False), (8, (2, 3), False), (255, (), True),
    ]  # fmt: skip
    assert view.numa[1].distances == {0: 40.0, 8: 10.0, 255: 80.0}


def test_nodes_that_share_processors_own_them_once() -> None:
    """Of two nodes beside the same processors the ordinary one has them, with a remark."""
    extra = GPU_MEMORY.replace("GPUMemory", "HBM")
    view = read_hwloc(hwloc(extra=extra).replace('nodeset="0x00000003"', 'nodeset="0x00000083"'), "host.xml")
    assert view.numa[1].cpus == (2, 3) and view.numa[2].cpus == () and not view.numa[2].device_memory
    assert any("shares its processors" in remark.text for remark in view.remarks)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('type="Core" os_index="1"', 'type="Kern" os_index="1"'),
        ('pci_busid="0000:28:00.0"', 'pci_busid="0000:18:00.0"'),
        ('pci_busid="0000:28:00.0"', 'pci_busid="here"'),
        ('type="NUMANode" os_index="1"', 'type="NUMANode" os_index="0"'),
        ('version="2.0"', 'version="4.0"'),
        ('gp_index="31"', 'gp_index="30"'),
        ('cpuset="0x00000003"', 'cpuset="zzz"'),
        ("</topology>", ""),
        ('<object type="Machine"', '<object type="Package"'),
    ],
)
def test_contradictions_are_refused(old: str, new: str) -> None:
    """Doubled identities, unknown types, sets that are none and cut files are refused."""
    with pytest.raises(ImportRefusedError):
        read_hwloc(hwloc().replace(old, new), "host.xml")


@pytest.mark.parametrize(
    ("old", "new", "doubt"),
    [
        (' local_memory="68719476736"', "", "is not stated"),
        ("10 21 21 10", "10 21 21", "left out"),
        ("10 21 21 10", "10 21 31 10", "differ"),
        ('pci_type="0302 [10de:1db5] [10de:1249] a1"', "", "class of PCI function"),
        ('nodeset="0x00000003" gp_index="1"', 'nodeset="0x00000007" gp_index="1"', "differ in 2"),
        ('cpuset="0x0000000f"', 'cpuset="0x0000001f"', "differ in 4"),
    ],
)
def test_doubts_are_remarked(old: str, new: str, doubt: str) -> None:
    """What is missing or does not fit is said, with the rest kept."""
    view = read_hwloc(hwloc().replace(old, new), "host.xml")
    assert any(doubt in remark.text for remark in view.remarks)


@pytest.mark.parametrize(
    ("code", "vendor", "device", "expected"),
    [
        (0x0302, 0x10DE, 0x2330, Role.GPU),
        (0x0300, 0x1002, 0x66A1, Role.GPU),
        (0x1200, 0x1002, 0x74A1, Role.GPU),
        (0x0300, 0x1002, 0x515E, Role.DISPLAY),
        (0x0300, 0x1A03, 0x2000, Role.DISPLAY),
        (0x0207, 0x15B3, 0x101B, Role.NETWORK),
        (0x0680, 0x10DE, 0x22A3, Role.SWITCH),
        (0x0604, 0x10B5, 0x9781, Role.BRIDGE),
        (0x0108, 0x144D, 0xA808, Role.OTHER),
        (0, 0, 0, Role.UNKNOWN),
    ],
)
def test_roles_of_pci_functions(code: int, vendor: int, device: int, expected: Role) -> None:
    """Class and identity tell GPUs from console chips."""
    assert role(code, vendor, device) is expected


@pytest.mark.parametrize(
    ("old", "new", "doubt"),
    [
        ('"Xeon Gold 0000"', '"25"', "the packages differ in CPUModel"),
        ('<info name="CPUModel" value="Xeon Gold 0000"/>\n', "", "does not name its processor"),
        ('"GenuineIntel"', '"Xeon Gold"', "is no vendor of a processor"),
    ],
)
def test_processors_that_are_named_unlike_are_remarked(old: str, new: str, doubt: str) -> None:
    """The packages of a host name one processor and its vendor."""
    assert not any(doubt in remark.text for remark in read_hwloc(hwloc(), "a.xml").remarks)
    assert any(doubt in remark.text for remark in read_hwloc(hwloc().replace(old, new, 1), "a.xml").remarks)


def test_an_adapter_that_lost_its_device_is_remarked() -> None:
    """Where other adapters have a device of the system, one without is in doubt; so is an odd identity."""
    device = '<object type="OSDev" gp_index="{0}2" name="eth{0}" osdev_type="2"/>'
    adapter = (
        '<object type="PCIDev" gp_index="{0}1" pci_busid="0000:{0}:00.0" pci_type="0200 [8086:1563] [0:0] 01"'
        ' pci_link_speed="1.0">{1}</object>\n'
    )
    both = "".join(adapter.format(n, device.format(n)) for n in (91, 92))
    lost = both.replace(device.format(92), "")
    doubt = "0000:92:00.0 has no device, though others have one"
    for extra, expected in ((both, False), (lost, True)):
        view = read_hwloc(hwloc(extra=extra), "a.xml")
        assert any(doubt in remark.text for remark in view.remarks) is expected
    wrong = read_hwloc(hwloc().replace('"0302 [10de:1db5]', '"0604 [10b5:9781]', 1), "a.xml")
    assert any("does not call it a bridge" in remark.text for remark in wrong.remarks)
    other = read_hwloc(hwloc(extra=both.replace("0200 [", "0108 [", 1)), "a.xml")
    assert any("its device is called 'eth91'" in remark.text for remark in other.remarks)
    odd = read_hwloc(hwloc(extra=both.replace("[8086:1563]", "[8086]", 1)), "a.xml")
    assert any("class and identity of 0000:91:00.0" in remark.text for remark in odd.remarks)
