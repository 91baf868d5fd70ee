"""Rules for roles, bindings and admission policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.deploy.apiserver.syntax import Problems, at, dns_label, named, one_of, path_segment, required

Json = Mapping[str, Any]
_RBAC = "rbac.authorization.k8s.io"


def role(document: Json) -> Problems:
    """Yield what is wrong with a Role or ClusterRole."""
    whole = document.get("kind") == "ClusterRole"
    for index, rule in enumerate(document.get("rules") or []):
        where = f"rules[{index}]"
        yield from required(f"{where}.verbs", rule.get("verbs"))
        if rule.get("nonResourceURLs"):
            if not whole or rule.get("resources") or rule.get("apiGroups"):
                yield f"{where}.nonResourceURLs: only in a ClusterRole, and not beside resources"
        else:
            yield from required(f"{where}.apiGroups", rule.get("apiGroups"))
            yield from required(f"{where}.resources", rule.get("resources"))


def role_binding(document: Json) -> Problems:
    """Yield what is wrong with a RoleBinding or ClusterRoleBinding."""
    reference: Json = document.get("roleRef") or {}
    kinds = ("ClusterRole",) if document.get("kind") == "ClusterRoleBinding" else ("Role", "ClusterRole")
    if reference.get("apiGroup", _RBAC) != _RBAC:
        yield f"roleRef.apiGroup: Unsupported value {reference['apiGroup']!r}"
    if reference.get("kind") not in kinds:
        yield f"roleRef.kind: Unsupported value {reference.get('kind')!r}"
    yield from named("roleRef.name", reference.get("name"), path_segment)
    for index, one in enumerate(document.get("subjects") or []):
        where, kind = f"subjects[{index}]", one.get("kind")
        if kind not in ("ServiceAccount", "User", "Group"):
            yield f"{where}.kind: Unsupported value {kind!r}"
        group = one.get("apiGroup", "" if kind == "ServiceAccount" else _RBAC)
        if group != ("" if kind == "ServiceAccount" else _RBAC):
            yield f"{where}.apiGroup: Unsupported value {group!r}"
        yield from required(f"{where}.name", one.get("name"))
        if kind == "ServiceAccount":
            yield from required(f"{where}.namespace", one.get("namespace"))
            yield from at(f"{where}.name", path_segment(one.get("name") or "x"))


def admission_policy(document: Json) -> Problems:
    """Yield what is wrong with a ValidatingAdmissionPolicy."""
    spec: Json = document.get("spec") or {}
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        yield "spec.validations: validations or auditAnnotations must not be empty"
    yield from required("spec.matchConstraints", spec.get("matchConstraints"))
    yield from one_of("spec.failurePolicy", spec.get("failurePolicy"), "Fail", "Ignore")
    for index, one in enumerate(spec.get("validations") or []):
        yield from required(f"spec.validations[{index}].expression", one.get("expression"))


def admission_binding(document: Json) -> Problems:
    """Yield what is wrong with a ValidatingAdmissionPolicyBinding."""
    spec: Json = document.get("spec") or {}
    yield from required("spec.policyName", spec.get("policyName"))
    actions = spec.get("validationActions") or []
    yield from required("spec.validationActions", actions)
    for one in actions:
        yield from one_of("spec.validationActions", one, "Deny", "Warn", "Audit")
    if {"Deny", "Warn"} <= set(actions):
        yield "spec.validationActions: must not contain both Deny and Warn"


def service_account(document: Json) -> Problems:
    """Yield what is wrong with a ServiceAccount, which has no rules but those of its metadata."""
    yield from at(
        "metadata.namespace", dns_label((document.get("metadata") or {}).get("namespace") or "default")
    )


_ADMISSION = "admissionregistration.k8s.io"
RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {
    f"{_RBAC}/Role": role, f"{_RBAC}/ClusterRole": role, f"{_RBAC}/RoleBinding": role_binding,
    f"{_RBAC}/ClusterRoleBinding": role_binding, f"{_ADMISSION}/ValidatingAdmissionPolicy": admission_policy,
    f"{_ADMISSION}/ValidatingAdmissionPolicyBinding": admission_binding, "/ServiceAccount": service_account,
}  # fmt: skip
