"""Label and field selectors as clients send them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gpunode.lab.kubernetes.errors import bad_request
from gpunode.lab.kubernetes.kinds import Object

_SET = re.compile(r"^(?P<key>[\w./-]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[\w./-]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^=]*)$")
_EXISTS = re.compile(r"^(?P<not>!?)\s*(?P<key>[\w./-]+)$")


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in re.split(r",(?![^(]*\))", selector) if term.strip()]


def _label_term(term: str, labels: Mapping[str, str]) -> bool:
    if match := _SET.match(term):
        values = {value.strip() for value in match["values"].split(",")}
        return (labels.get(match["key"]) in values) == (match["operator"] == "in")
    if match := _EQUAL.match(term):
        return (labels.get(match["key"]) == match["value"].strip()) == (match["operator"] != "!=")
    if match := _EXISTS.match(term):
        return (match["key"] in labels) == (not match["not"])
    raise bad_request(f"unable to parse requirement: {term}")


def labels_match(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether `labels` satisfy the selector text; raises ApiError (400) when it cannot be parsed."""
    return all(_label_term(term, labels) for term in _terms(selector))


def fields_match(selector: str, body: Object) -> bool:
    """Whether the object's fields satisfy `a.b=c,d!=e`; raises ApiError (400) when it cannot be parsed."""
    for term in _terms(selector):
        match = _EQUAL.match(term)
        if not match:
            raise bad_request(f"invalid field selector: {term}")
        if (_field(body, match["key"]) == match["value"]) != (match["operator"] != "!="):
            return False
    return True


def _field(body: Object, path: str) -> str:
    value: Any = body
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def label_selector_text(selector: Object) -> str:
    """The text form of an object's `LabelSelector`."""
    terms = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
    forms = {
        "In": "{key} in ({values})",
        "NotIn": "{key} notin ({values})",
        "Exists": "{key}",
        "DoesNotExist": "!{key}",
    }
    for expression in selector.get("matchExpressions", []):
        form = forms[expression["operator"]]
        terms.append(form.format(key=expression["key"], values=",".join(expression.get("values", []))))
    return ",".join(terms)
