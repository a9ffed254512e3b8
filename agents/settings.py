"""Where an agent keeps its state and finds the others."""

import json
import os
from pathlib import Path

from pydantic import Field

from autonomic.seams.errors import Permanent
from autonomic.seams.word import Word

DEFAULT_HOME = ".autonomic"
JOURNAL_URL = "AUTONOMIC_JOURNAL_URL"
KEEP_DAYS = "AUTONOMIC_KEEP_DAYS"
_FIELDS = {JOURNAL_URL: "journal_url", KEEP_DAYS: "keep_days"}


def home_from_environment() -> Path:
    """The folder named by AUTONOMIC_HOME, else `.autonomic` in the current folder."""
    return Path(os.environ.get("AUTONOMIC_HOME", DEFAULT_HOME)).absolute()


class Settings(Word):
    """Written by `autonomic up` as HOME/settings.json, or by hand where the parts run elsewhere.

    URLs are without a trailing slash; an empty one means that there is no such part. `journal_url` is a SQLAlchemy
    URL in which `{agent}` stands for the agent's name. `platform` names where workflows run (ray
    or kubernetes); whichever it is, its host answers at `host_url`. With `custom_resources` the planner puts
    in force the Workflow and Strategy objects of the namespace that HOME/kubernetes.json names.

    A part listens at its own URL, or at the port of it on every interface with the address `listen_address`, where the URL is a name
    that others know it by (0.0.0.0 in a pod behind a Service). AUTONOMIC_JOURNAL_URL in the environment goes before `journal_url`,
    so that the password of a database stands in no file.

    `use_ray`, `use_mlflow` and `use_prometheus` name what is there already, which `up` uses instead of starting its own. `up` keeps
    what stands here, the ports too.

    Events, decisions, plans and runs that ended are forgotten after `keep_days`; AUTONOMIC_KEEP_DAYS goes before it.
    """

    home: Path
    monitor_url: str
    planner_url: str
    tuner_url: str
    host_url: str = ""
    front_url: str = ""
    prometheus_url: str = ""
    mlflow_url: str = ""
    ray_address: str = ""
    use_ray: str = ""
    use_mlflow: str = ""
    use_prometheus: str = ""
    journal_url: str = ""
    platform: str = "ray"
    custom_resources: bool = False
    listen_address: str = ""
    keep_days: float = Field(default=30.0, gt=0)

    @property
    def tokens_path(self) -> Path:
        """The bearer tokens, readable by their owner only."""
        return self.home / "tokens.json"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def journal(self, agent: str) -> str:
        """The journal of one agent: its own SQLite file unless `journal_url` says otherwise."""
        if self.journal_url:
            return self.journal_url.replace("{agent}", agent)
        return f"sqlite:///{self.home / agent}.db"

    def save(self) -> None:
        """Writes HOME/settings.json in one step."""
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / "settings.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(self.model_dump_json(indent=2) + "\n")
        temporary.replace(path)

    @classmethod
    def load(cls, home: Path | None = None) -> "Settings":
        """The settings of `home` (default: from the environment).

        Raises:
            Permanent: there are none, or they cannot be read.
        """
        home = (home or home_from_environment()).absolute()
        path = home / "settings.json"
        try:
            return cls.model_validate({**json.loads(path.read_text()), **{_FIELDS[name]: value for name, value in _given().items()}})
        except FileNotFoundError:
            raise Permanent(
                f"{path} does not exist: nothing was started in this home. Start with `autonomic up`, or name another home with --home"
            ) from None
        except ValueError as invalid:
            given = f" with {', '.join(_given())} of the environment" if _given() else ""
            raise Permanent(f"{path}{given} is not valid: {invalid}") from None


def _given() -> dict[str, str]:
    return {name: value for name in _FIELDS if (value := os.environ.get(name))}
