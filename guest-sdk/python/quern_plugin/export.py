"""From the contract's functions to an author's. What an author's code raises is logged, and is a failure: the
broker asks about smaller parts of the batch until the message at fault stands alone.
"""

import random
import time

from .host import connect, log, told
from .message import Reads, bodies
from .params import Params
from .plugin import Plugin
from .refusal import Refusal

NOBODY = 0xFFFFFFFF


def _missing(what):
    def raises(*_, **__):
        raise RuntimeError(f"a plugin has no {what}: the same message gets the same answer")

    return raises


for _name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "localtime", "gmtime"):
    setattr(time, _name, _missing("clock"))
for _name in ("random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform", "getrandbits"):
    setattr(random, _name, _missing("randomness"))


class Exported:
    """A plugin, and the bindings of its world."""

    def __init__(self, module, about, wit):
        found = [it for it in vars(module).values() if isinstance(it, Plugin)]
        kind = about["kind"]
        if len(found) != 1:
            raise TypeError(f"the main module has {len(found)} plugins, one is right: @{kind.replace('-', '_')}(…)")
        self.plugin = found[0]
        if self.plugin.kind != kind:
            raise TypeError(f"the main module makes a {self.plugin.kind}, and pyproject.toml says kind is {kind}")
        settings = self.plugin.settings
        self.wit, self.about, self.settings = wit, about, settings
        self.name = settings.get("name") or about["name"]
        self.params = Params(settings.get("params"), self.name)
        self.reads = Reads(settings.get("reads") or (), kind == "body-filter")
        self.function = self.plugin.function

    def describe(self):
        about = self.wit.about
        params = [
            about.Param(it.name, about.ParamType[it.type.upper()], it.default, it.choices, it.help)
            for it in self.params.described
        ]
        version = self.settings.get("version") or self.about["version"]
        return about.Description(self.name, version, self.plugin.summary, self.settings.get("language"), params)

    def attempt(self, work):
        """Runs what answers, or says that it cannot."""
        connect(self.wit.host)
        try:
            return work()
        except Exception as error:
            log("error", told(error))
            raise self.wit.Err(f"{type(error).__name__}: {error}") from None

    def refusable(self, expression, given, work):
        """Runs what may refuse; whatever else is raised stops the instance, and these are its last words."""
        connect(self.wit.host)
        types = self.wit.types
        try:
            return work()
        except Refusal as refusal:
            at, length = refusal.span(expression, given)
            code = types.RefusalCode[refusal.code.upper().replace("-", "_")]
            raise self.wit.Err(
                types.Refusal(code, refusal.param, at, length, refusal.reason, refusal.help)
            ) from None
        except Exception as error:
            log("error", told(error))
            raise

    def opened(self, step, expression, given):
        """Checked parameters, and what the author's own step makes of them."""
        params = self.params.checked(given)
        own = self.settings.get(step)
        if own is None:
            return (params,)
        return (params, own(expression, params) if step == "compile" else own(params))

    def verdicts(self, batch, messages, rest):
        """A bit for each message that is accepted."""
        accept = self.function
        words = [0] * ((batch.len + 31) // 32)
        for place, message in enumerate(messages):
            if accept(message, *rest):
                words[place >> 5] |= 1 << (place & 31)
        return words


def subscription(it):
    class Subscription:
        @classmethod
        def compile(cls, expression, params):
            self = cls()
            self.rest = it.refusable(expression, params, lambda: it.opened("compile", expression, params))
            return self

        def needs(self):
            return it.reads.needs(it.wit.types)

    class Filter(Subscription):
        def matches(self, batch):
            return it.attempt(lambda: it.verdicts(batch, it.reads.messages(batch), self.rest))

    class BodyFilter(Subscription):
        def matches(self, batch, ends, data):
            def embodied():
                for message, body in zip(it.reads.messages(batch), bodies(ends, bytes(data))):
                    message.body = body
                    yield message

            return it.attempt(lambda: it.verdicts(batch, embodied(), self.rest))

    return BodyFilter if it.plugin.kind == "body-filter" else Filter


def selector(it):
    class Selector:
        @classmethod
        def open(cls, params):
            self = cls()
            self.rest = it.refusable("", params, lambda: it.opened("open", "", params))
            self.queues = []
            return self

        def needs(self):
            return it.reads.needs(it.wit.types)

        def route(self, queues):
            self.queues = queues

        def select(self, batch):
            def chosen():
                if not self.queues:
                    raise ValueError("there is no queue to choose from")
                queues = self.queues
                answers = (it.function(message, queues, *self.rest) for message in it.reads.messages(batch))
                return [_index(answer, queues, "a queue") for answer in answers]

            return it.attempt(chosen)

    return Selector


def allocation(it):
    class AllocationStrategy:
        def check(self, params):
            it.refusable("", params, lambda: it.opened("check", "", params))

        def allocate(self, request, params):
            def owners():
                for queue in request.queues:
                    queue.owner = None if queue.owner == NOBODY else queue.owner
                    queue.lag = None if queue.lag < 0 else queue.lag
                values = it.params.checked(params)
                answers = it.function(request, values)
                return [NOBODY if each is None else _index(each, request.members, "a member") for each in answers]

            return it.attempt(owners)

    return AllocationStrategy


def _index(value, of, what):
    """Counted from 0; what is none would reach the broker as some other number."""
    if isinstance(value, int) and 0 <= value < len(of):
        return value
    raise IndexError(f"{value} is not the number of {what}; there are {len(of)}, counted from 0")
