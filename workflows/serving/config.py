"""What one replica of a service is given."""

from pydantic import Field

from autonomic.seams.state import Role
from autonomic.seams.word import Word
from autonomic.workflows.spec.workflow import chunk_rows


class ServerConfig(Word):
    """One replica. Durations are seconds.

    `name` is the model's name in URLs (the service's name), `model` what is served (`models:/mnist/3`), `model_version` its
    version ("3"), `model_folder` the folder with the model. `max_in_flight` requests are worked on at a time, `max_waiting`
    more wait here, and those after them get 503. Requests are put together up to `max_batch_size` rows, and one request's rows go
    in chunks of as many (see `chunk_rows`); with more than `max_rows` it gets 413. `timeout_seconds` is how long somebody waits for
    an answer (0: for ever): what is older is dropped, and a batch that takes longer makes the replica not ready.
    `device_time_seconds` is spent asleep per batch. `predictions` is the log's file ("" keeps none). `python_path` is put before
    sys.path, for the architecture's class. `token` asks callers of infer for a bearer token ("" does not). `threads` are those of
    one inference.
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
    max_rows: int = Field(default=10_000, ge=1)
    timeout_seconds: float = Field(default=0.0, ge=0)
    max_wait_seconds: float = Field(default=0.0, ge=0)
    max_in_flight: int = Field(default=1, ge=1)
    max_waiting: int = Field(default=64, ge=0)
    device_time_seconds: float = Field(default=0.0, ge=0)
    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    token: str = Field(default="", repr=False)
    predictions: str = ""
    python_path: tuple[str, ...] = ()
    threads: int = Field(default=1, ge=1)

    @property
    def chunk_rows(self) -> int:
        """How many rows of one request go through the model together: a request is a batch already, whatever `max_batch_size` is."""
        return chunk_rows(self.max_batch_size)
