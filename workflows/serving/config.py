"""What one replica of a service is told."""

from pydantic import Field

from autonomic.seams.state import Role
from autonomic.seams.word import Word


class ServerConfig(Word):
    """One replica. Durations are seconds.

    `name` is the model's name in URLs (the service's name), `model` what is served (`models:/mnist/3`), `model_version` its
    version ("3"), `model_folder` the folder with model.json. `max_in_flight` requests are worked on at a time, `max_waiting`
    more wait here, and those after them get 503. `device_time_seconds` is spent asleep per batch. `predictions` is the
    log's file ("" keeps none). `python_path` is put before sys.path, for the architecture's class. `token` asks callers of
    infer for a bearer token ("" does not). `threads` are those of one inference.
    """

    workflow: str
    service: str
    role: Role = "champion"
    name: str
    model: str
    model_version: str
    model_folder: str
    address: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    max_batch_size: int = Field(default=1, ge=1)
    max_wait_seconds: float = Field(default=0.0, ge=0)
    max_in_flight: int = Field(default=1, ge=1)
    max_waiting: int = Field(default=64, ge=0)
    device_time_seconds: float = Field(default=0.0, ge=0)
    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    token: str = Field(default="", repr=False)
    predictions: str = ""
    python_path: tuple[str, ...] = ()
    threads: int = Field(default=1, ge=1)
