"""What every table of a spec is: frozen, and closed to keys that it does not know."""

from pydantic import BaseModel, ConfigDict


class SpecPart(BaseModel):
    """One table of a spec. It cannot be changed, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
