"""Order statistics of many rows, deterministic on every device."""

from torch import Tensor

from quell.configs.export_mode.flag import is_exporting


def lower_medians(values_PK: Tensor) -> Tensor:
    """The median of every row, of an even number the lower of the two in the middle, (P,)."""
    return _ranked(values_PK, (values_PK.shape[1] - 1) // 2)[0]


def medians(values_PK: Tensor) -> Tensor:
    """The median of every row, of an even number the mean of the two in the middle, (P,)."""
    count = values_PK.shape[1]
    if count % 2:
        return lower_medians(values_PK)
    low, high = _ranked(values_PK, count // 2 - 1, count // 2)
    return (low + high) / 2


def _ranked(values_PK: Tensor, *ranks: int) -> list[Tensor]:
    """The values of these ranks in every row, from 0 on for the smallest, (P,) each.

    On a GPU neither `kthvalue` nor `median` is deterministic, and ONNX has none of them, so rows are sorted there.
    """
    if values_PK.device.type == "cpu" and not is_exporting():
        return [values_PK.kthvalue(rank + 1, dim=1).values for rank in ranks]
    ordered_PK = values_PK.sort(dim=1).values
    return [ordered_PK[:, rank] for rank in ranks]
