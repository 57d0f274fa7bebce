"""All that a plugin may ask of the broker. In tests, lines are printed and counts go nowhere."""

import sys

_broker = None


def connect(broker):
    """From now on there is a broker; while a component is being built there is none."""
    global _broker
    _broker = broker


def log(level, line):
    """A line for the broker's log, at "debug", "info", "warn" or "error"; at most 1 KiB, ten a call."""
    if _broker is None:
        print(f"{level}: {line}", file=sys.stderr)
    else:
        _broker.log(_broker.Level[level.upper()], line)


def count(name, by=1):
    """Adds to a counter of the plugin's own; at most 16 names."""
    if _broker is not None:
        _broker.count(name, by)


def told(error):
    """What was raised, and where."""
    where = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        where.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {error} ({', '.join(where[-6:])})"
