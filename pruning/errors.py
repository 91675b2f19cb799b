"""The one error of ours that people read: a sentence, and what would have worked."""


class Refused(ValueError):
    """Something was asked that cannot be done. ``str()`` is the whole sentence with its remedy.

    ``message`` says what is wrong, ``remedy`` what would have worked.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message, self.remedy = message, remedy


class Later(Refused, NotImplementedError):
    """A part of the public face that is not built yet."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not part of this version yet.", "The README lists what is.")
