"""A message as a plugin sees it: an attribute for each thing it reads, ``None`` where the message has none."""

import json

TEXTS = ("tag", "keys", "topic", "message_id", "order_key", "group", "zone")
NUMBERS = {
    "tag_code": "TagCode",
    "queue_id": "QueueId",
    "queue_offset": "QueueOffset",
    "size": "Size",
    "born_at": "BornTimestamp",
    "stored_at": "StoreTimestamp",
    "attempts": "ReconsumeTimes",
    "sequence": "Sequence",
    "random": "Random",
}
#: One mark says that there is no number, the other that there is something else.
_MARKS = (-(2**63), -(2**63) + 1024)
_ABSENT = 1 << 31


class Message:
    """``m.region``, or ``m["x-region"]`` where a name is no word."""

    def __getitem__(self, name):
        return self.__dict__[name]

    def __repr__(self):
        return f"Message({self.__dict__})"


class Body:
    """A body: as it is, as text, as what JSON says it is."""

    def __init__(self, data):
        self.bytes = data

    @property
    def text(self):
        """What is no UTF-8 reads as U+FFFD."""
        return self.bytes.decode("utf-8", "replace")

    @property
    def json(self):
        """``None`` = it is no JSON."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class Reads:
    """What is read of messages, and how it is found in a batch."""

    def __init__(self, reads, has_body=False):
        self.texts, self.numbers = [], []
        taken = {"body"} if has_body else set()
        for what in reads:
            name = self._add(what)
            if name in taken:
                raise TypeError(f"{name} is read twice")
            taken.add(name)

    def _add(self, what):
        """``region`` and ``amount:int`` are properties, ``@tag`` is the message's own."""
        if what.startswith("@"):
            name = what[1:]
            if name in TEXTS:
                self.texts.append((name, "".join(it.title() for it in name.split("_")), ()))
            elif name in NUMBERS:
                self.numbers.append((name, NUMBERS[name], ()))
            else:
                known = ", ".join(f"@{it}" for it in (*TEXTS, *NUMBERS))
                raise TypeError(f"a message has no {what}; there are {known}")
            return name
        name, colon, kind = what.rpartition(":")
        if not colon or kind not in ("text", "int"):
            name, kind = what, "text"
        if not name:
            raise TypeError("a property has a name")
        if kind == "int":
            self.numbers.append((name, "Integer", (name,)))
        else:
            self.texts.append((name, "Property", (name,)))
        return name

    def needs(self, types):
        """As the contract has it."""
        fields = [getattr(types, f"Field_{kind}")(*of) for _, kind, of in self.texts]
        numbers = [getattr(types, f"Number_{kind}")(*of) for _, kind, of in self.numbers]
        return types.Needs(fields, numbers, None)

    def messages(self, batch):
        """The messages of a batch, one after the other."""
        names = [name for name, _, _ in self.texts]
        figures = [name for name, _, _ in self.numbers]
        ends, numbers = iter(batch.ends), iter(batch.numbers)
        text, start = batch.text, 0
        # Of as many characters as bytes, all are ASCII; the others are found in the bytes.
        is_ascii = text.isascii()
        data = text if is_ascii else text.encode()
        for _ in range(batch.len):
            message = Message()
            values = message.__dict__
            for name, end in zip(names, ends):
                if end & _ABSENT:
                    values[name] = None
                else:
                    values[name] = data[start:end] if is_ascii else data[start:end].decode()
                    start = end
            for name, number in zip(figures, numbers):
                values[name] = None if number in _MARKS else number
            yield message


def bodies(ends, data):
    """The bodies of a batch, one after the other."""
    start = 0
    for end in ends:
        yield Body(data[start:end])
        start = end
