"""To have AetherNet in traiNNer-redux without the launcher, copy this file to traiNNer/archs/ (aethernet must be
installed).
"""

from training.trainner_redux import register

register()
