"""What is watched: rules that promtool takes and fires, on series that somebody exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.manifest_situations import situations
from planner.deploy import Target, kubernetes_bundle
from planner.deploy.context import Context
from planner.deploy.monitoring import components, exported, figures, rules
from planner.deploy.node_agent import agent
from planner.deploy.series import series_table
from tests.deploy.promtool import case

Json = dict[str, Any]
SITUATIONS = {one.name: one for one in situations()}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
REPLAYS = "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL"
CRC = "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"
RECOVERIES = "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"
KEEP_LABELS = (
    "PlanNVLinkReplays", "PlanNVLinkRecoveries", "PlanNVLinkCrcErrors", "PlanFabricUnhealthy", "PlanGpuError",
)  # fmt: skip
LABELS = '{namespace="planner", pod="p-0"}'
# Alert, series, values every 15 s, when to look, whether it fires; an NVLink carries 450 GB/s at most.
UNITS = [
    ("PlanNVLinkSaturated", "DCGM_FI_PROF_NVLINK_TX_BYTES", "440e9x40", "5m", True),
    ("PlanNVLinkSaturated", "DCGM_FI_PROF_NVLINK_TX_BYTES", "300e9x40", "5m", False),
    ("PlanNVLinkSaturated", "DCGM_FI_PROF_NVLINK_TX_BYTES", "440e9x40", "1m", False),
    ("PlanPCIeSaturated", "DCGM_FI_PROF_PCIE_RX_BYTES", "200e9x40", "5m", True),
    ("PlanPCIeSaturated", "DCGM_FI_PROF_PCIE_RX_BYTES", "10e9x40", "5m", False),
    ("PlanNVLinkReplays", REPLAYS, "0x20 5x40", "10m", True),
    ("PlanNVLinkReplays", REPLAYS, "7x60", "10m", False),
    ("PlanNVLinkRecoveries", RECOVERIES, "0x20 1x40", "10m", True),
    ("PlanNVLinkRecoveries", RECOVERIES, "3x60", "10m", False),
    ("PlanNVLinkCrcErrors", CRC, "0+60x90", "20m", True),
    ("PlanNVLinkCrcErrors", CRC, "0+1x90", "20m", False),
    ("PlanFabricUnhealthy", "DCGM_FI_DEV_FABRIC_HEALTH_SUMMARY", "2x40", "3m", True),
    ("PlanFabricUnhealthy", "DCGM_FI_DEV_FABRIC_HEALTH_SUMMARY", "1x40", "3m", False),
    ("PlanGpuError", "DCGM_FI_DEV_XID_ERRORS", "79x10", "1m", True),
    ("PlanGpuError", "DCGM_FI_DEV_XID_ERRORS", "0x10", "1m", False),
    ("PlanLinkMissing", "planner_links_missing", "2x40", "3m", True),
    ("PlanLinkMissing", "planner_links_missing", "0x40", "3m", False),
    ("PlanLatencyAboveBudget", "vllm:e2e_request_latency_seconds_bucket", "slow", "20m", True),
    ("PlanLatencyAboveBudget", "vllm:e2e_request_latency_seconds_bucket", "fast", "20m", False),
]


def context(name: str = "single-node service") -> Context:
    one = SITUATIONS[name]
    return Context(one.plan, one.topology, one.workload, Target())


def written(folder: Path) -> tuple[Path, dict[str, Json]]:
    """Write the rules of a plan as Prometheus reads them; return the file and the alerts by name."""
    found = context()
    groups = rules(found, found.plan.jobs[0])["spec"]["groups"]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups}))
    return path, {rule["alert"]: rule for rule in groups[0]["rules"] if "alert" in rule}


@needs_promtool
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    """The rules of every situation are PromQL."""
    for name in SITUATIONS:
        found = context(name)
        path = tmp_path / "rules.yaml"
        path.write_text(yaml.safe_dump({"groups": rules(found, found.plan.jobs[0])["spec"]["groups"]}))
        check = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True)
        assert check.returncode == 0, check.stdout + check.stderr


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    """On made-up series each alert fires on its fault and is silent without it: 19 unit tests of promtool."""
    path, alerts = written(tmp_path)
    units = [unit(alerts, *row) for row in UNITS]
    document = {"rule_files": [path.name], "evaluation_interval": "15s", "tests": units}
    tests = tmp_path / "tests.yaml"
    tests.write_text(yaml.safe_dump(document))
    run = subprocess.run(
        ["promtool", "test", "rules", str(tests)], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for one in units:  # a test that expects the contrary of each must fail
        expected = one["alert_rule_test"][0]
        expected["exp_alerts"] = [] if expected["exp_alerts"] else [{"exp_labels": {"severity": "none"}}]
    tests.write_text(yaml.safe_dump(document))
    run = subprocess.run(
        ["promtool", "test", "rules", str(tests)], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.stdout.count("alertname:") + run.stderr.count("alertname:") >= len(UNITS)


def unit(alerts: dict[str, Json], alert: str, series: str, values: str, at: str, fires: bool) -> Json:
    rule = alerts[alert]
    labels = dict(rule["labels"])
    if "{{ $labels.pod }}" in rule["annotations"]["summary"]:
        labels["pod"] = "p-0"
    if alert in KEEP_LABELS:
        labels["namespace"] = "planner"
    if alert == "PlanLinkMissing":
        found = case(
            alert, 'planner_links_missing{node="n"}', values, at, {**labels, "node": "n"} if fires else None
        )
        text = rule["annotations"]["summary"].replace("{{ $labels.node }}", "n").replace("{{ $value }}", "2")
    elif series.startswith("vllm"):
        found = case(
            alert, f'{series}{{namespace="planner", le="5"}}', "0+1x90", at, labels if fires else None
        )
        far = "0+100x90" if values == "slow" else "0+1x90"
        for bound in ("100", "+Inf"):
            found["input_series"].append(
                {"series": f'{series}{{namespace="planner", le="{bound}"}}', "values": far}
            )
        text = rule["annotations"]["summary"]
    else:
        found = case(alert, f"{series}{LABELS}", values, at, labels if fires else None)
        text = (
            rule["annotations"]["summary"].replace("{{ $labels.pod }}", "p-0").replace("{{ $value }}", "79")
        )
    for one in found["alert_rule_test"][0]["exp_alerts"]:
        one["exp_annotations"] = {"summary": text}
    return found


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_rule_waits_for_a_series_that_nobody_exports(name: str) -> None:
    """Every series that a rule reads is in the counters file, or served by the agent or the server."""
    found = components(context(name))
    there = exported([*found["monitoring"], *agent(context(name))])
    text = json.dumps([one for one in found["monitoring"] if one["kind"] == "PrometheusRule"])
    used = set(re.findall(r"DCGM_FI_[A-Z0-9_]+|planner_[a-z_]+|vllm:[a-z0-9_]+", text))
    assert used and used <= there
    recorded = set(re.findall(r'"record": "(plan:[a-z0-9_:]+)"', text))
    assert set(re.findall(r"plan:[a-z0-9_:]+", text)) == recorded


def test_the_table_is_whole() -> None:
    """Rules name series of the table, and each has either a record or an alert with its severity."""
    table = series_table()
    names = {one.name for one in table.series}
    for rule in table.rules:
        assert rule.uses in names and rule.uses.removesuffix("_bucket") in rule.expr + rule.uses
        assert bool(rule.record) != bool(rule.alert) and (not rule.alert or rule.severity)


def test_thresholds_are_those_of_the_plan() -> None:
    """The NVLink alert speaks of the rate in the topology, the latency alert of the predicted percentile."""
    found = context()
    own = figures(found, found.plan.jobs[0])
    machine = found.topology.nodes[0].machine
    out = [data["edge"] for _, _, data in machine.graph.out_edges("gpu0", data=True)]
    assert float(own["nvlink"]) == sum(edge.rate for edge in out if edge.kind == "nvlink")
    assert float(own["p99"]) == 7.5
    text = json.dumps(rules(found, found.plan.jobs[0]))
    assert f"> 0.9 * {own['nvlink']}" in text and "p99 > 7.5" in text


def test_the_dashboard_is_a_page_of_grafana() -> None:
    """One panel a series, none over another."""
    (page,) = [
        one for one in components(context())["monitoring"] if one["metadata"]["name"] == "planner-dashboard"
    ]
    panels = json.loads(page["data"]["planner.json"])["panels"]
    places = {(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels}
    assert len(places) == len(panels) == len(series_table().series)


def test_roll_outs_stop_at_the_gate_of_their_job() -> None:
    """Where a service has several pods, a Rollout over its Deployment refers to the gate that is emitted."""
    one = SITUATIONS["single-node service"]
    files = kubernetes_bundle(one.plan, one.topology, one.workload)
    texts = [text for path, text in files.items() if path.startswith("components/canary/")]
    found = [item for text in texts for item in yaml.safe_load_all(text)]
    (rollout,) = [one for one in found if one["kind"] == "Rollout"]
    (gate,) = [one for one in found if one["kind"] == "AnalysisTemplate"]
    canary = rollout["spec"]["strategy"]["canary"]
    assert canary["steps"][1]["analysis"]["templates"][0]["templateName"] == gate["metadata"]["name"]
    assert (canary["maxSurge"], canary["maxUnavailable"]) == (0, 1)
    (deployment,) = yaml.safe_load_all(files["base/serve/deployment.yaml"])
    assert rollout["spec"]["workloadRef"]["name"] == deployment["metadata"]["name"]
