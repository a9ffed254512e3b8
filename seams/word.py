"""The base of all immutable values that cross a boundary as JSON."""

from pydantic import BaseModel, ConfigDict


class Word(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
