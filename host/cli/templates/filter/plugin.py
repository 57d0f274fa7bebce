"""A filter: which messages does a consumer get?"""

from quern_plugin import filter


@filter(
    # `region` and `amount` of a message's properties; absent ones are None.
    reads=["region", "amount:int"],
    params={
        "from": {"default": "eu", "help": "the region"},
        "min": {"default": 100, "help": "the least amount"},
    },
)
def accept(m, p):
    """Large orders from one region."""
    return m.region == p["from"] and m.amount is not None and m.amount >= p.min
