"""A filter that reads bodies, too: which messages does a consumer get?"""

from quern_plugin import Refusal, body_filter


def check(_expression, p):
    """Once for each consumer, before the first message."""
    if p.text == "":
        raise Refusal("every body contains nothing", param="text")


@body_filter(
    reads=["@tag"],
    params={"text": {"type": "text", "help": "what a body has to contain"}},
    compile=check,
)
def accept(m, p, _compiled):
    """Bodies that contain a text, and all that is urgent."""
    # There are `m.body.text` and `m.body.json`, too.
    return m.tag == "urgent" or p.text.encode() in m.body.bytes
