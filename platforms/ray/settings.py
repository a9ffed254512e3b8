"""What a host is started with."""

from pathlib import Path

from autonomic.seams.word import Word


class HostSettings(Word):
    """`home` is the folder of `autonomic up`; the host keeps its files in `home`/host.

    `token` is what callers show, and `service_token` what callers of a service with `token: true` show. On `address` the
    host listens at `port` and the services answer at `front_port` (0: a free one); both stay after a restart. `server` is
    the class that each replica starts (`package.module:Class`). `python_path` are folders that the workers import from as
    well.
    """

    home: Path
    token: str
    port: int
    front_port: int = 0
    address: str = "127.0.0.1"
    mlflow_url: str = ""
    service_token: str = ""
    server: str = "autonomic.workflows.serving.server:ModelServer"
    python_path: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.home / "host"

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"
