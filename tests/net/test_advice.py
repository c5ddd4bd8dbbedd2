"""Tests of wsrelay.net.advice."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.net.advice import FORMS, problem_of


class ProblemTests(SynchronousTestCase):
    """What is wrong with an endpoint."""

    def test_texts_of_python(self) -> None:
        """Python's and Twisted's texts are translated, with what to write; the relay's own are shown as they are."""
        for error, problem in (
            (ValueError("Unknown endpoint type: 'x'"), f"there is no such kind of endpoint; {FORMS}"),
            (ValueError("invalid literal for int() with base 10: 'x'"), f"the port must be a whole number; {FORMS}"),
            (TypeError("_parseTCP() missing 1 required positional argument: 'port'"), f"the port is missing; {FORMS}"),
            (TypeError("f() got an unexpected keyword argument 'iface'"), f"there is no argument iface=; {FORMS}"),
            (ValueError("there is no certificate with its key"), "there is no certificate with its key"),
        ):
            self.assertEqual(problem_of(error), problem)

    def test_file(self) -> None:
        """A file that cannot be read is named."""
        self.assertTrue(problem_of(OSError(2, "No such file", "key.pem")).startswith("there is no file key.pem; "))
