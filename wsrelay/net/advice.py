"""What is wrong with an endpoint, for the operator: Twisted's own texts are Python's, as "invalid literal for int()".

Must not live here: the endpoints (:mod:`wsrelay.net.endpoints`), short forms and their mistakes
(:mod:`wsrelay.net.descriptions`), failures to listen (:mod:`wsrelay.process`).
"""

import re
from typing import Final

from wsrelay.text import why_unreadable

__all__ = ["problem_of"]

#: The text of an exception → what is wrong.
_PROBLEMS: Final = (
    ("Unknown endpoint type.*", "there is no such kind of endpoint"),
    (r".*invalid literal for int\(\).*", "the port must be a whole number"),
    (r".*missing \d+ required positional arguments?: '(\w+)'.*", r"the \1 is missing"),
    (r".*unexpected keyword argument '(\w+)'.*", r"there is no argument \1="),
)

#: What to write instead.
FORMS: Final = "write PORT, ADDRESS:PORT, ssl:PORT:privateKey=FILE:certKey=FILE, unix:PATH, or as Twisted has it"


def problem_of(error: Exception) -> str:
    """Return what is wrong with an endpoint, and what to write.

    Args:
        error: what the check of the endpoint has raised.
    """
    if isinstance(error, OSError):  # a file of TLS
        return why_unreadable(error)
    text = str(error)
    for pattern, problem in _PROBLEMS:
        found = re.fullmatch(pattern, text)
        if found is not None:
            return f"{found.expand(problem)}; {FORMS}"
    return text
