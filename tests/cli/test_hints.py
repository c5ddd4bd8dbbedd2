"""Tests of wsrelay.cli.hints."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.cli.hints import FOREIGN, nearest, option_names, unknown_option, unknown_variables


class NearestTests(SynchronousTestCase):
    """The nearest word."""

    def test_nearest(self) -> None:
        """It is named, if there is one."""
        self.assertEqual(nearest("serv", ["tail", "serve"]), "; is it serve?")
        self.assertEqual(nearest("xyz", ["tail", "serve"]), "")


class UnknownOptionTests(SynchronousTestCase):
    """What getopt says."""

    def test_texts(self) -> None:
        """An unknown option gets the nearest name, one of twistd its place, a beginning all its ends."""
        for problem, said in {
            "option --max-roms not recognized": "--max-roms: there is no such option; is it --max-rooms?",
            "option --xyzzy not recognized": "--xyzzy: there is no such option, see --help",
            "option --port not recognized": "--port: there is no such option;"
            " write --listen PORT, or --listen ADDRESS:PORT",
            "option -p not recognized": "-p: there is no such option; write --listen PORT, or --listen ADDRESS:PORT",
            "option --host not recognized": "--host: there is no such option;"
            " write --listen PORT, or --listen ADDRESS:PORT",
            "option -x not recognized": "-x: there is no such option, see --help",
            "option --pidfile not recognized": "--pidfile is an option of twistd, not of the relay:"
            " twistd --pidfile wsrelay",
            "option --history- not a unique prefix": "--history-: which one? --history-seconds, --history-bytes,"
            " --history-total-bytes",
            "option --listen requires argument": "option --listen requires argument",
        }.items():
            self.assertEqual(unknown_option(problem, ["pidfile"]), said)


class OptionNamesTests(SynchronousTestCase):
    """Names of settings in a text."""

    def test_names(self) -> None:
        """A setting is named as its option; other words stay."""
        for said, shown in {
            "room_log_bytes: 5 with max_message_bytes=4": "room-log-bytes: 5 with max-message-bytes=4",
            "echo: no_such_thing": "echo: no_such_thing",
        }.items():
            self.assertEqual(option_names(said), shown)


class UnknownVariablesTests(SynchronousTestCase):
    """Variables of the environment."""

    def test_near_miss(self) -> None:
        """A variable with our prefix that is no option is named, with the nearest; its value is not."""
        self.assertEqual(
            unknown_variables(["WSRELAY_MAX_ROMS", "WSRELAY_XYZZY", "PATH", "WSRELAY"]),
            [
                "WSRELAY_MAX_ROMS in the environment is no option, and ignored; is it WSRELAY_MAX_ROOMS?",
                "WSRELAY_XYZZY in the environment is no option, and ignored",
            ],
        )

    def test_known(self) -> None:
        """Options, and what else has our prefix on purpose, are not named."""
        self.assertEqual(unknown_variables(["WSRELAY_MAX_ROOMS", "WSRELAY_LISTEN", *FOREIGN]), [])

    def test_services(self) -> None:
        """What Kubernetes and Docker set for a service named wsrelay, or wsrelay-admin, is not named."""
        names = [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_WS",
            "PORT",
            "PORT_8080_TCP",
            "PORT_8080_TCP_ADDR",
            "NAME",
        ]
        self.assertEqual(unknown_variables(f"WSRELAY_{each}" for each in names), [])
        self.assertEqual(unknown_variables(f"WSRELAY_ADMIN_{each}" for each in names), [])
        self.assertEqual(unknown_variables(f"WSRELAY_SERVICE_{each}" for each in names), [])
        self.assertEqual(unknown_variables(["WSRELAY_PORT_1_UDP", "WSRELAY_NAME", "WSRELAY_ENV_HOME"]), [])

    def test_like_services(self) -> None:
        """One such variable alone is a mistake."""
        ignored = " in the environment is no option, and ignored"
        self.assertEqual(
            unknown_variables(["WSRELAY_NOD_NAME", "WSRELAY_PORT", "WSRELAY_X_SERVICE_HOST", "WSRELAY_X_Y"]),
            [
                f"WSRELAY_NOD_NAME{ignored}; is it WSRELAY_NODE_NAME?",
                f"WSRELAY_PORT{ignored}",
                f"WSRELAY_X_Y{ignored}",
            ],
        )
