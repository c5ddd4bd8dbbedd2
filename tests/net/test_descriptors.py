"""Tests of wsrelay.net.descriptors."""

import resource
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import SettingsError
from wsrelay.net import descriptors
from wsrelay.net.descriptors import MARGIN, check_limit, most_connections, raise_limit


class DescriptorsTests(SynchronousTestCase):
    """Open files."""

    def limit(self, soft: int, hard: int, open_files: int = 10) -> None:
        self.patch(resource, "getrlimit", lambda which: (soft, hard))
        self.patch(descriptors, "_open_files", lambda: open_files)

    def test_how_many(self) -> None:
        """As many as may be open, less what is, less the margin; less a quarter where that is less."""
        for soft, most in ((20_000, 20_000 - 10 - MARGIN), (64, 41), (11, 1), (5, 1)):
            self.limit(soft, 30_000)
            self.assertEqual(most_connections(), most)
            self.assertEqual(most_connections(raised=True), 30_000 - 10 - MARGIN)

    def test_no_limit(self) -> None:
        """Where there is none, there is one all the same."""
        self.limit(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self.assertEqual(most_connections(), 2**20 - 10 - MARGIN)

    def test_check(self) -> None:
        """More connections than the raised limit leaves room for are refused, with what can be done."""
        self.limit(10, 30_000)
        most = most_connections(raised=True)
        check_limit(most)
        error = self.assertRaises(SettingsError, check_limit, most + 1)

        self.assertIn(f"leaves room for {most}, not for {most + 1}; raise it", error.problems[0])

    def test_raise(self) -> None:
        """A process raises its own limit to the hard one, and sees what is open."""
        code = (
            "import resource\n"
            "from wsrelay.net.descriptors import most_connections, raise_limit\n"
            "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))\n"
            "assert 0 < most_connections() < 60\n"
            "raise_limit()\n"
            "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)\n"
            "assert most_connections() == most_connections(raised=True) > 60\n"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode, 0)

    def test_where_it_cannot_be_raised(self) -> None:
        """Then it stays as it is."""

        def refuse(*_: object) -> None:
            raise ValueError

        self.patch(resource, "setrlimit", refuse)
        raise_limit()

    def test_elsewhere(self) -> None:
        """Systems without /proc have /dev/fd."""
        self.patch(descriptors.os.path, "isdir", lambda path: False)
        self.assertGreater(descriptors._open_files(), 2)
