"""Networks that predict the noise and return what is left of the image."""

from configs.errors import ConfigError


def check_residual(residual: bool, in_channels: int, out_channels: int) -> None:
    """ConfigError when the output cannot be subtracted from the input."""
    if residual and in_channels != out_channels:
        raise ConfigError(
            f"residual=true subtracts the output ({out_channels} channels) from the input ({in_channels} channels); "
            "they must be equal, or set residual=false"
        )
