"""Double of chaiNNer's PyTorch package."""

from api import add_package

package = add_package(__file__, id="chaiNNer_pytorch", name="PyTorch", description="", icon="PyTorch", color="#DD6B20")
