"""Double of chaiNNer's logger."""

import logging

logger = logging.getLogger("chainner")
