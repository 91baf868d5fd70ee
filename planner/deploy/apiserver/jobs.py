"""Rules for Jobs and CronJobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.schedules import schedule
from planner.deploy.apiserver.syntax import (
    Problems,
    at,
    at_least,
    dns_label,
    dns_subdomain,
    one_of,
    qualified_name,
    required,
)
from planner.deploy.apiserver.workloads import template

Json = Mapping[str, Any]
MOST_INDEXES = 100_000
MOST_FAILED = 10_000
"""Failed indexes of a Job of more completions than `MOST_INDEXES` that retries by index (API of JobSpec)."""
MOST_RULES = 20
MOST_CODES = 255
LONGEST_MANAGER = 63


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
    elif (spec.get("parallelism") or 0) > MOST_INDEXES:
        yield f"{path}.parallelism: must be at most {MOST_INDEXES} when completion mode is Indexed"
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        yield f"{path}.backoffLimitPerIndex: Required value when maxFailedIndexes is specified"
    yield from at_least(path, spec, 0, "maxFailedIndexes", most=spec.get("completions") or MOST_INDEXES)
    if spec.get("backoffLimitPerIndex") is not None and (spec.get("completions") or 0) > MOST_INDEXES:
        yield from required(f"{path}.maxFailedIndexes", spec.get("maxFailedIndexes"))
        yield from at_least(path, spec, 0, "maxFailedIndexes", most=MOST_FAILED)
    yield from at(f"{path}.managedBy", _manager(spec.get("managedBy")))
    yield from _failure_policy(spec, path)
    yield from _success_policy(spec.get("successPolicy"), spec.get("completions") or 0, path)
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


def _manager(text: str | None) -> str:
    """Return what is wrong with the name of a controller of Jobs: a domain, a slash and a path."""
    if text is None:
        return ""
    domain, slash, rest = text.partition("/")
    if not slash or not rest or dns_subdomain(domain) or len(text) > LONGEST_MANAGER:
        return f"{text!r} must be a domain-prefixed path of at most {LONGEST_MANAGER} characters"
    return ""


def _success_policy(policy: Json | None, completions: int, path: str) -> Problems:
    if policy is None:
        return
    rules = policy.get("rules") or []
    yield from required(f"{path}.successPolicy.rules", rules)
    yield from _at_most(f"{path}.successPolicy.rules", rules, MOST_RULES)
    for index, rule in enumerate(rules):
        where, indexes = f"{path}.successPolicy.rules[{index}]", rule.get("succeededIndexes")
        if indexes is None and rule.get("succeededCount") is None:
            yield f"{where}: Required value: succeededCount or succeededIndexes"
        most = completions
        if indexes is not None:
            chosen = _indexes(indexes)
            if chosen is None or (chosen and chosen[-1] >= completions):
                yield f"{where}.succeededIndexes: {indexes!r} are no ascending indexes below completions"
                continue
            most = len(chosen)
        yield from at_least(where, rule, 0, "succeededCount", most=most)


def _indexes(text: str) -> list[int] | None:
    """Return the indexes that a text such as ``1,3-5`` names, ``None`` where they do not ascend."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        bounds = part.split("-")
        if len(bounds) > 2 or not all(bound.isdecimal() and len(bound) <= 6 for bound in bounds):
            return None
        first, last = int(bounds[0]), int(bounds[-1])
        if last < first or (len(bounds) == 2 and last == first) or (found and first <= found[-1]):
            return None
        found += range(first, last + 1)
    return found


def _at_most(path: str, values: Sequence[Any], most: int) -> Problems:
    if len(values) > most:
        yield f"{path}: Too many: must have at most {most} items"


def _failure_policy(spec: Json, path: str) -> Problems:
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    names = [
        one.get("name")
        for field in ("initContainers", "containers")
        for one in ((spec.get("template") or {}).get("spec") or {}).get(field) or []
    ]
    yield from _at_most(f"{path}.podFailurePolicy.rules", rules, MOST_RULES)
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
            yield from _at_most(f"{where}.onExitCodes.values", values, MOST_CODES)
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
    yield from at("spec.schedule", schedule(text) if text else "")
    if spec.get("timeZone") in ("", "Local"):
        yield f"spec.timeZone: {spec['timeZone']!r} is no time zone"
    yield from one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), "Allow", "Forbid", "Replace")
    yield from at_least(
        "spec", spec, 0, "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
    )
    if len((document.get("metadata") or {}).get("name") or "") > 52:
        yield "metadata.name: must be no more than 52 characters"
    yield from job_spec((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")


RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {"batch/Job": job, "batch/CronJob": cron_job}
