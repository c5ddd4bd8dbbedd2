"""Tests of the files in twisted/plugins/."""

import subprocess
import sys

from twisted.application.reactors import IReactorInstaller
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wsrelay import tap
from wsrelay.interfaces import IHandshakeValidatorFactory
from wsrelay.net import reactor


class ServiceMakerTests(SynchronousTestCase):
    """The twistd command."""

    def test_service_maker(self) -> None:
        """twistd finds exactly one command named wsrelay: ours."""
        [maker] = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "wsrelay"]

        self.assertIs(maker.options, tap.Options)
        self.assertIs(maker.makeService, tap.makeService)

    def test_plugin_imports(self) -> None:
        """The plugin modules of both commands import no reactor and nothing of wsrelay (TRAPS 38)."""
        code = (
            "import sys\n"
            "import twisted.plugins.wsrelay_plugin, twisted.plugins.wsrelay_reactor\n"
            "sys.exit(any(name in sys.modules for name in ('twisted.internet.reactor', 'autobahn', 'wsrelay')))\n"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode, 0)


class ReactorPluginTests(SynchronousTestCase):
    """The reactor of ``--reactor=wsrelay``."""

    def test_reactor_plugin(self) -> None:
        """It is found by its name, and installs the lean reactor."""
        [installer] = [one for one in getPlugins(IReactorInstaller) if one.shortName == "wsrelay"]
        installed: list[bool] = []
        self.patch(reactor, "install", lambda: installed.append(True))

        installer.install()

        self.assertTrue(verifyObject(IReactorInstaller, installer))
        self.assertEqual(installed, [True])


class ValidatorPluginsTests(SynchronousTestCase):
    """The built-in validators as plugins."""

    def test_validator_plugins(self) -> None:
        """All seven are found, provide the interface, and have a name and a description."""
        found = {factory.name: factory for factory in getPlugins(IHandshakeValidatorFactory)}

        self.assertLessEqual({"host", "http", "origin", "python", "rooms", "subprotocol", "token"}, set(found))
        for factory in found.values():
            self.assertTrue(verifyObject(IHandshakeValidatorFactory, factory))
            self.assertTrue(verifyObject(IPlugin, factory))
            self.assertTrue(factory.description.endswith("."))
