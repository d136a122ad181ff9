from kit.small_model import batch, config

__all__ = ["batch", "config"]
