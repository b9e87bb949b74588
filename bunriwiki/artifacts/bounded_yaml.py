"""YAML within bounds of size, depth and time, with libyaml, which is faster than PyYAML's own code.

Aliases are not accepted: some hundred bytes of them stand for millions of values, as soon as anything walks over the document.
"""

from __future__ import annotations

import yaml

MAX_DEPTH = 32  # of nested lists and mappings
MAX_SCALAR = 4096  # characters of a name or value: the time to read a number in base 60 is quadratic in its length

# PyYAML may be built without libyaml.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class YamlBoundsError(ValueError):
    """The document is larger or deeper than allowed, or has an alias. The message says which, and what to do."""


def load(data: bytes, max_bytes: int) -> object:
    """The value of the document `data`. Raises YamlBoundsError, yaml.YAMLError and ValueError (a date that is none).

    The bounds are checked first: libyaml's own recursion would end the process in a document that is nested deeply.
    """
    check(data, max_bytes)
    return yaml.load(data, Loader=_Loader)  # noqa: S506 (both are safe loaders)


def dump(value: object) -> str:
    """The document of a value without shared parts, names in the order given."""
    return str(yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120))


def check(data: bytes, max_bytes: int) -> None:
    """Check the bounds without making a value. Raises YamlBoundsError and yaml.YAMLError."""
    if len(data) > max_bytes:
        raise YamlBoundsError(f"it has more than {max_bytes} bytes: replace it with a valid file")
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        match event:
            case yaml.AliasEvent():
                raise YamlBoundsError(f"it has an alias (*{event.anchor}), which is not accepted here: repeat the value")
            case yaml.CollectionStartEvent():
                depth += 1
                if depth > MAX_DEPTH:
                    raise YamlBoundsError(f"it is nested more than {MAX_DEPTH} deep")
            case yaml.CollectionEndEvent():
                depth -= 1
            case yaml.ScalarEvent() if len(event.value) > MAX_SCALAR:
                raise YamlBoundsError(f"a value has more than {MAX_SCALAR} characters")
