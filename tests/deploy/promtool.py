"""Unit tests of alerts, written for promtool from the rules of a bundle."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
POD = {"pod": "p-0"}


def case(alert: str, series: str, values: str, at: str, fires: Json | None) -> Json:
    """Return a test: what a series does, when to look, the labels of the alert, ``None`` where it is silent.

    Parameters
    ----------
    series, values
        A series and its values every 15 s, in promtool's shorthand.
    """
    expected = [] if fires is None else [{"exp_labels": fires}]
    return {
        "interval": "15s",
        "input_series": [{"series": series, "values": values}],
        "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": expected}],
    }
