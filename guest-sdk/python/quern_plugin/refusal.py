"""Why an expression or a parameter is not accepted, and where."""


class Refusal(Exception):
    """Raised before the first message: the consumer is told. Places count characters, as strings do."""

    def __init__(self, reason, *, code=None, param=None, at=0, length=None, help=None):
        super().__init__(reason)
        self.reason = reason
        self.code = code or ("syntax" if param is None else "bad-param")
        self.param, self.at, self.length, self.help = param, at, length, help

    def span(self, expression, given):
        """In bytes of what it speaks of."""
        about = expression if self.param is None else dict(given).get(self.param, "")
        end = len(about) if self.length is None else self.at + self.length
        return len(about[: self.at].encode()), len(about[self.at : end].encode())
