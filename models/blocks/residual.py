"""Networks whose output is added to the image, or subtracted from it."""

from configs.errors import ConfigError


def check_residual(residual: bool, in_channels: int, out_channels: int) -> None:
    """ConfigError when output and input cannot be added."""
    if residual and in_channels != out_channels:
        raise ConfigError(
            f"residual=true joins the output ({out_channels} channels) with the input ({in_channels} channels); they "
            "must be equal, or set residual=false"
        )
