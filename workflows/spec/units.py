"""Quantities with units, as they are written in YAML: `30s`, `500m`, `1Gi`, `10/h`, `5%`."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_duration(text: Any) -> float:
    """Seconds of a duration such as `30s`, `5m`, `1h30m` or `250ms`."""
    if isinstance(text, str):
        parts = _DURATION.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise ValueError(f"{text!r} is not a duration; write a number with ms, s, m, h or d, such as 30s, 5m or 1h30m")


def parse_cpu(text: Any) -> float:
    """Cores of a Kubernetes CPU quantity such as `2`, `0.5` or `500m`."""
    if isinstance(text, int | float) and not isinstance(text, bool) and text >= 0:
        return float(text)
    if isinstance(text, str) and re.fullmatch(r"\d+m", text):
        return int(text[:-1]) / 1000
    if isinstance(text, str) and re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    raise ValueError(f"{text!r} is not a number of cores; write 2, 0.5 or 500m")


def parse_bytes(text: Any) -> int:
    """Bytes of a Kubernetes memory quantity such as `512Mi` or `1Gi`."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = re.fullmatch(r"(\d+)(k|M|G|T|Ki|Mi|Gi|Ti)?", text) if isinstance(text, str) else None
    if match:
        return int(match[1]) * _BYTES[match[2] or ""]
    raise ValueError(f"{text!r} is not an amount of memory; write bytes or a number with Ki, Mi, Gi or Ti, such as 512Mi")


def parse_percent(text: Any) -> float:
    """Percent (0 to 100) of a text such as `5%`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text) if isinstance(text, str) else None
    if match and float(match[1]) <= 100:
        return float(match[1])
    raise ValueError(f"{text!r} is not a percentage; write 0% to 100%, such as 5%")


def parse_rate(text: Any) -> tuple[int, float]:
    """(count, seconds) of a rate such as `10/h` or `3/5m`."""
    match = re.fullmatch(r"(\d+)/(\d*(?:\.\d+)?)(s|m|h|d)", text) if isinstance(text, str) else None
    if match:
        return int(match[1]), float(match[2] or 1) * _SECONDS[match[3]]
    raise ValueError(f"{text!r} is not a rate; write a count per time, such as 10/h, 3/m or 2/5m")


def format_bytes(count: int) -> str:
    """The shortest exact amount that `parse_bytes` reads back, such as `512Mi`."""
    fitting = [(count // size, unit) for unit, size in _BYTES.items() if count and count % size == 0]
    number, unit = min(fitting, default=(count, ""))
    return f"{number}{unit}"


def format_amount(resource: str, amount: float) -> str:
    """An amount of `cpu`, `memory` or `gpu` as it is written in a document."""
    return format_bytes(int(amount)) if resource == "memory" else f"{amount:g}"


def format_duration(seconds: float) -> str:
    """The shortest duration text that `parse_duration` reads back."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{seconds * 1000:g}ms"


def _accepting_parsed(parse: Any, *parsed: type) -> BeforeValidator:
    # a model that was dumped to JSON holds parsed values and must be readable again
    def validate(value: Any) -> Any:
        if isinstance(value, parsed) and not isinstance(value, bool | str):
            return tuple(value) if isinstance(value, list) else value
        return parse(value)

    return BeforeValidator(validate)


def _schema(pattern: str, example: str, parsed: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", parsed], "pattern": pattern, "examples": [example]})


Duration = Annotated[float, _accepting_parsed(parse_duration, float), _schema(r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "30s", "number")]
"""Seconds."""
Cpu = Annotated[float, _accepting_parsed(parse_cpu, float), _schema(r"^\d+(\.\d+)?m?$", "500m", "number")]
"""Cores."""
Bytes = Annotated[int, _accepting_parsed(parse_bytes, int), _schema(r"^\d+(k|M|G|T|Ki|Mi|Gi|Ti)?$", "1Gi", "integer")]
"""Bytes."""
Percent = Annotated[float, _accepting_parsed(parse_percent, float), _schema(r"^\d+(\.\d+)?%$", "10%", "number")]
"""Percent, 0 to 100."""
Rate = Annotated[tuple[int, float], _accepting_parsed(parse_rate, tuple, list), _schema(r"^\d+/\d*(\.\d+)?(s|m|h|d)$", "10/h", "array")]
"""(count, seconds)."""
