"""To have AetherNet in neosr without the launcher, copy this file to neosr/archs/ (aethernet must be installed)."""

from training.neosr import register

register()
