"""Rules for Jobs and CronJobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.deploy.apiserver.syntax import (
    Problems,
    at,
    at_least,
    dns_label,
    one_of,
    qualified_name,
    required,
)
from planner.deploy.apiserver.workloads import template

Json = Mapping[str, Any]
MOST_INDEXES = 100_000
_FIELD = re.compile(r"(\*|[0-9A-Za-z?]+(-[0-9A-Za-z]+)?)(/[0-9]+)?")
_MACRO = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \d+(ns|us|ms|s|m|h).*)")


def job(document: Json) -> Problems:
    """Yield what is wrong with a Job."""
    spec: Json = document.get("spec") or {}
    yield from job_spec(spec, "spec")
    name, completions = (document.get("metadata") or {}).get("name") or "", spec.get("completions") or 0
    if name and spec.get("completionMode") == "Indexed" and completions > 0:
        yield from at("metadata.name", dns_label(f"{name}-{completions - 1}"))


def job_spec(spec: Json, path: str) -> Problems:
    """Yield what is wrong with the specification of a Job."""
    yield from at_least(
        path, spec, 0, "parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished",
        "activeDeadlineSeconds", "backoffLimitPerIndex", "maxFailedIndexes",
    )  # fmt: skip
    mode = spec.get("completionMode")
    yield from one_of(f"{path}.completionMode", mode, "NonIndexed", "Indexed")
    if mode == "Indexed" and spec.get("completions") is None:
        yield f"{path}.completions: Required value when completion mode is Indexed"
    if mode != "Indexed":
        for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if spec.get(field) is not None:
                yield f"{path}.{field}: requires indexed completion mode"
        if (spec.get("parallelism") or 0) > MOST_INDEXES:
            yield f"{path}.parallelism: must be at most {MOST_INDEXES} when completion mode is Indexed"
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        yield f"{path}.backoffLimitPerIndex: Required value when maxFailedIndexes is specified"
    yield from _failure_policy(spec, path)
    if spec.get("successPolicy") is not None:
        yield from required(f"{path}.successPolicy.rules", spec["successPolicy"].get("rules"))
    if spec.get("selector") and not spec.get("manualSelector"):
        yield f"{path}.selector: `selector` not auto-generated"
    replaced = ("Failed",) if spec.get("podFailurePolicy") else ("TerminatingOrFailed", "Failed")
    yield from one_of(f"{path}.podReplacementPolicy", spec.get("podReplacementPolicy"), *replaced)
    policy = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy")
    if policy is None:
        yield f"{path}.template.spec.restartPolicy: Required value: valid values are OnFailure and Never"
    restarts = ("Never",) if spec.get("podFailurePolicy") else ("OnFailure", "Never")
    yield from template(
        {**spec, "template": spec.get("template") or {}}, path, (*restarts, *(() if policy else ("Always",)))
    )


def _failure_policy(spec: Json, path: str) -> Problems:
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    names = [
        one.get("name")
        for field in ("initContainers", "containers")
        for one in ((spec.get("template") or {}).get("spec") or {}).get(field) or []
    ]
    for index, rule in enumerate(rules):
        where, codes = f"{path}.podFailurePolicy.rules[{index}]", rule.get("onExitCodes")
        yield from required(f"{where}.action", rule.get("action"))
        yield from one_of(f"{where}.action", rule.get("action"), "Count", "FailIndex", "FailJob", "Ignore")
        if rule.get("action") == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            yield f"{where}.action: FailIndex requires backoffLimitPerIndex"
        if (codes is None) == (not rule.get("onPodConditions")):
            yield f"{where}: specifying one of onExitCodes and onPodConditions is required"
        if codes is not None:
            values = codes.get("values") or []
            yield from one_of(f"{where}.onExitCodes.operator", codes.get("operator"), "In", "NotIn")
            for field, value in (("operator", codes.get("operator")), ("values", values)):
                yield from required(f"{where}.onExitCodes.{field}", value)
            if values != sorted(set(values)):
                yield f"{where}.onExitCodes.values: must be ordered and unique"
            if codes.get("operator") == "In" and 0 in values:
                yield f"{where}.onExitCodes.values: must not be 0 for the In operator"
            if codes.get("containerName") not in (None, *names):
                yield f"{where}.onExitCodes.containerName: must be the name of a container of the pod"
        for number, one in enumerate(rule.get("onPodConditions") or []):
            inner = f"{where}.onPodConditions[{number}]"
            yield from at(f"{inner}.type", qualified_name(one.get("type") or ""))
            yield from one_of(f"{inner}.status", one.get("status"), "True", "False", "Unknown")


def cron_job(document: Json) -> Problems:
    """Yield what is wrong with a CronJob."""
    spec: Json = document.get("spec") or {}
    text = spec.get("schedule") or ""
    yield from required("spec.schedule", text)
    parts = [one for field in text.split() for one in field.split(",")]
    if (
        text
        and not _MACRO.fullmatch(text)
        and (len(text.split()) != 5 or not all(map(_FIELD.fullmatch, parts)))
    ):
        yield f"spec.schedule: {text!r} is no schedule of cron"
    yield from one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), "Allow", "Forbid", "Replace")
    yield from at_least(
        "spec", spec, 0, "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
    )
    if len((document.get("metadata") or {}).get("name") or "") > 52:
        yield "metadata.name: must be no more than 52 characters"
    yield from job_spec((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")


RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {"batch/Job": job, "batch/CronJob": cron_job}
