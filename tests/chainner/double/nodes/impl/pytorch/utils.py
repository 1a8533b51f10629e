"""Double of chaiNNer's freeing of GPU memory."""


def safe_cuda_cache_empty() -> None:
    pass
