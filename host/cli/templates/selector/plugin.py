"""A queue selector: which queue does a message go to that its sender left open?"""

from quern_plugin import hash_code, selector


@selector(reads=["@tag", "@order_key", "@sequence"])
def select(m, queues, _params):
    """A queue of their own for urgent messages."""
    # The number of a queue, counted from 0. Queues have `broker`, `id`, `zone`, `latency_us` and `backlog`.
    others = len(queues) - 1
    if others == 0 or m.tag == "urgent":
        return 0
    # Messages with one order key share a queue; the others take them in turn.
    number = (m.sequence or 0) if m.order_key is None else hash_code(m.order_key)
    return 1 + number % others
