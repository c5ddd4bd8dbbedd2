"""Tests of wsrelay.net.descriptors."""

import resource
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import SettingsError
from wsrelay.net import descriptors
from wsrelay.net.descriptors import MARGIN, check_limit, most_connections, raise_limit


class DescriptorsTests(SynchronousTestCase):
    """The limit on open files."""

    def limit(self, soft: int, hard: int, open_files: int = 10) -> None:
        self.patch(resource, "getrlimit", lambda which: (soft, hard))
        self.patch(descriptors, "_open_files", lambda: open_files)

    def test_most_connections(self) -> None:
        """The limit minus open files minus the margin, or minus a quarter if that is less."""
        for soft, most in ((20_000, 20_000 - 10 - MARGIN), (64, 41), (11, 1), (5, 1)):
            self.limit(soft, 30_000)
            self.assertEqual(most_connections(), most)
            self.assertEqual(most_connections(raised=True), 30_000 - 10 - MARGIN)

    def test_reserved(self) -> None:
        """Descriptors that validators may use are taken off."""
        self.limit(20_000, 30_000)

        self.assertEqual(most_connections(1000), 20_000 - 10 - MARGIN - 1000)
        self.assertEqual(most_connections(20_000), 1)
        self.assertRaises(SettingsError, check_limit, most_connections(raised=True), 1)

    def test_no_limit(self) -> None:
        """Without a limit, 2**20 is assumed."""
        self.limit(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self.assertEqual(most_connections(), 2**20 - 10 - MARGIN)

    def test_check_limit(self) -> None:
        """More connections than the raised limit allows are refused, with advice."""
        self.limit(10, 30_000)
        most = most_connections(raised=True)
        check_limit(most)
        error = self.assertRaises(SettingsError, check_limit, most + 1)

        self.assertIn(f"leaves room for {most}, not for {most + 1}; raise it", error.problems[0])

    def test_too_low(self) -> None:
        """Without descriptors for connections no relay starts; with any, or without a limit, it does."""
        self.limit(25, 25)
        error = self.assertRaises(SettingsError, check_limit, 0)
        self.assertEqual(
            error.problems,
            ("the limit on open files, 25, is too low for a relay; raise it (ulimit -Hn, LimitNOFILE=)",),
        )
        for hard in (10 + descriptors.OWN_FILES, resource.RLIM_INFINITY):
            self.limit(hard, hard)
            check_limit(0)

    def test_raise_limit(self) -> None:
        """A process raises its limit to the hard one, and sees its open files."""
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

    def test_raise_limit_refused(self) -> None:
        """If the system refuses, the limit stays unchanged."""

        def refuse(*_: object) -> None:
            raise ValueError

        self.patch(resource, "setrlimit", refuse)
        raise_limit()

    def test_open_files_without_proc(self) -> None:
        """Systems without /proc use /dev/fd."""
        self.patch(descriptors.os.path, "isdir", lambda path: False)
        self.assertGreater(descriptors._open_files(), 2)
