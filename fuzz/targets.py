"""Table of all targets. A new target is a file with a `Target` and a row here."""

import connection_target
import frames_target
import gate_target
import native_target

TARGETS = {
    module.TARGET.name: module.TARGET for module in (gate_target, frames_target, native_target, connection_target)
}
