"""An allocation strategy: who of a group consumes which queue?"""

from quern_plugin import allocation


@allocation()
def allocate(request, _params):
    """Shares by the members' weights."""
    # The number of each queue's member, counted from 0; None = nobody. Members have `id`, `zone` and `weight`; queues
    # `broker`, `id`, `zone`, `lag` and today's `owner`.
    owned = [0] * len(request.members)

    def fill(member):
        return (owned[member] + 1) / max(request.members[member].weight, 1)

    owners = []
    for _ in request.queues:
        # Whose share is the least full; of equals the first.
        least = min(range(len(owned)), key=fill, default=None)
        if least is not None:
            owned[least] += 1
        owners.append(least)
    return owners
