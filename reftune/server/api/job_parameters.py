"""What the request for a fine-tuning job may say."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reftune.server.errors import BadRequest

Auto = Literal["auto"]
Text64 = Annotated[str, Field(max_length=64)]
Text512 = Annotated[str, Field(max_length=512)]


class Hyperparameters(BaseModel):
    """How long and how fast it is trained; "auto" leaves it to the server."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=64)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"


class Supervised(BaseModel):
    """Settings of the only method there is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    hyperparameters: Hyperparameters | None = None


class Method(BaseModel):
    """How it is trained."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["supervised"]
    supervised: Supervised | None = None


class JobParameters(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**31)
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    metadata: dict[Text64, Text512] | None = Field(None, max_length=16)
    integrations: list[Any] | None = None

    def check(self) -> dict[str, Any]:
        """Return the hyperparameters, wherever they were named.

        Raises:
            BadRequest: they are named twice and differ, or something is asked for that there is
                not.
        """
        if self.integrations:
            raise BadRequest(
                "integrations are not supported; expected none",
                "integrations",
                "unsupported_parameter",
            )
        named = self.method and self.method.supervised and self.method.supervised.hyperparameters
        if named and self.hyperparameters and named != self.hyperparameters:
            raise BadRequest(
                "hyperparameters and method.supervised.hyperparameters differ; expected one of "
                "them",
                "hyperparameters",
            )
        return (named or self.hyperparameters or Hyperparameters()).model_dump()
