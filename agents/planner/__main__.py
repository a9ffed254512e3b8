"""`python -m autonomic.agents.planner`: the planner of the home named by AUTONOMIC_HOME."""

from autonomic.agents import logs
from autonomic.agents.auth import Tokens
from autonomic.agents.planner.app import create
from autonomic.agents.serve import serve
from autonomic.agents.settings import Settings


def main() -> None:
    """Runs until SIGTERM."""
    settings = Settings.load()
    tokens = Tokens.load(settings.tokens_path)
    logs.setup("planner", tokens.values.values())
    serve(create(settings, tokens), settings.planner_url)


if __name__ == "__main__":
    main()
