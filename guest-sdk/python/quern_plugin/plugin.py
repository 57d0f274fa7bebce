"""What makes a function a plugin; it stays a function that tests can call."""


class Plugin:
    def __init__(self, kind, function, settings):
        self.kind, self.function, self.settings = kind, function, settings
        first = (function.__doc__ or "").strip().partition("\n")[0]
        self.summary = settings.get("summary") or first.removesuffix(".")
        self.__doc__ = function.__doc__

    def __call__(self, *args):
        return self.function(*args)


def _made(kind, settings):
    def make(function):
        if not callable(function):
            raise TypeError(f"@{kind} stands above a function")
        return Plugin(kind, function, settings)

    return make


def filter(*, reads=(), params=None, compile=None, language=None, **about):
    """Which messages does a consumer get? ``accept(m, p)``, or ``accept(m, p, compiled)`` with what
    ``compile(expression, p)`` has returned, which is called once for each consumer and may raise a Refusal.
    """
    return _made("filter", dict(about, reads=reads, params=params, compile=compile, language=language))


def body_filter(*, reads=(), params=None, compile=None, language=None, **about):
    """The same, with ``m.body`` to read: its ``text``, its ``json``, its ``bytes``."""
    return _made("body-filter", dict(about, reads=reads, params=params, compile=compile, language=language))


def selector(*, reads=(), params=None, open=None, **about):
    """Which queue does a message go to that its sender left open? ``select(m, queues, p)`` is the number of a queue."""
    return _made("selector", dict(about, reads=reads, params=params, open=open))


def allocation(*, params=None, check=None, **about):
    """Who of a group consumes which queue? ``allocate(request, p)`` is the number of each queue's member, or None."""
    return _made("allocation", dict(about, params=params, check=check))
