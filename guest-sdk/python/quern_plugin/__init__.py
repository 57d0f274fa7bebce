"""What a plugin's author imports: a decorator for each kind of plugin, and what all of them may use.

A plugin has no clock, no randomness and no I/O: the same message gets the same answer.
"""

from .host import count, log
from .plugin import allocation, body_filter, filter, selector
from .refusal import Refusal

__all__ = ["Refusal", "allocation", "body_filter", "count", "filter", "hash_code", "log", "selector"]


def hash_code(text: str) -> int:
    """``String.hashCode`` of Java: what RocketMQ's answers rest on."""
    value = 0
    for code in map(ord, text):
        # A codec would be imported when it is first asked for, and there are no files then.
        halves = (code,) if code < 0x10000 else (0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF))
        for unit in halves:
            value = (value * 31 + unit) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
