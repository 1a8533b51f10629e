"""A pytest plugin: registers our networks before traiNNer-redux's own tests collect its registry."""

from training.trainner_redux import register

register()
