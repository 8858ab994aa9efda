"""What every section of a configuration is made of: strict keys, and numbers with sensible bounds."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from quell.configs.sizes import refuse_switch

Positive = Annotated[int, Field(gt=0, le=10**12)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Rate = Annotated[float, Field(gt=0, le=1e12)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e12)]
Samples = Annotated[int, Field(gt=0, le=10**6)]
"""Samples or batches that are in memory at the same time."""
Folder = Annotated[str, Field(min_length=1, max_length=255)]
"""Name of one folder below another."""


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_switch(value, cls.model_fields[info.field_name or ""].annotation)
