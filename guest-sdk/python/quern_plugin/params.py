"""Parameters: what a plugin takes, and what consumers gave, checked before the plugin sees it."""

import json
import re

from .refusal import Refusal

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)


def _is_integer(value, _):
    return bool(_INTEGER.fullmatch(value)) and -(2**63) <= int(value) < 2**63


_TYPES = {
    "text": (lambda value, _: True, lambda _: "a text", str),
    "integer": (_is_integer, lambda _: "a whole number", int),
    "number": (lambda value, _: bool(_NUMBER.fullmatch(value)), lambda _: "a number", float),
    "boolean": (lambda value, _: value in ("true", "false"), lambda _: "true or false", lambda value: value == "true"),
    "choice": (lambda value, param: value in param.choices, lambda param: " or ".join(param.choices), str),
}


def _type_of(default, choices):
    if choices:
        return "choice"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number")):
        if isinstance(default, kind):
            return name
    return "text"


class Param:
    def __init__(self, name, given):
        it = given if isinstance(given, dict) else {"default": given}
        default = it.get("default")
        self.name = name
        self.choices = list(it.get("choices", []))
        self.type = it.get("type") or _type_of(default, self.choices)
        self.help = it.get("help", "")
        if self.type not in _TYPES:
            raise TypeError(f"parameter {name} is of type {self.type}; there are {', '.join(_TYPES)}")
        self.fits, self.wanted, self.value = _TYPES[self.type]
        is_bool = isinstance(default, bool)
        self.default = None if default is None else str(default).lower() if is_bool else str(default)
        if self.default is not None and not self.fits(self.default, self):
            raise TypeError(f"the default of parameter {name} is not {self.wanted(self)}")


class Values(dict):
    """What a plugin is set to: ``p.min``, or ``p["from"]`` where a name is a word of Python's."""

    __getattr__ = dict.__getitem__


class Params:
    def __init__(self, described, name):
        self.name = name
        self.described = [Param(*it) for it in (described or {}).items()]

    def checked(self, given):
        """What consumers gave, as the plugin sees it."""
        known = {param.name: param for param in self.described}
        values = Values()
        for name, value in given:
            param = known.get(name)
            if param is None:
                names = ", ".join(known)
                help = f"{self.name} takes {names}" if names else f"{self.name} takes no parameters"
                raise Refusal("there is no such parameter", param=name, help=help)
            if not param.fits(value, param):
                quoted = json.dumps(value, ensure_ascii=False)
                raise Refusal(f"{quoted} is not {param.wanted(param)}", param=name)
            values.setdefault(name, param.value(value))
        for param in self.described:
            if param.name in values:
                continue
            if param.default is None:
                raise Refusal("the parameter is required", param=param.name, help=param.help or None)
            values[param.name] = param.value(param.default)
        return values
