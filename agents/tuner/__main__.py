"""`python -m autonomic.agents.tuner`: the tuner of the home named by AUTONOMIC_HOME."""

from autonomic.agents import logs
from autonomic.agents.auth import Tokens
from autonomic.agents.serve import serve
from autonomic.agents.settings import Settings
from autonomic.agents.tuner.service import create


def main() -> None:
    """Runs until SIGTERM."""
    settings = Settings.load()
    tokens = Tokens.load(settings.tokens_path)
    logs.setup("tuner", tokens.values.values())
    serve(create(settings, tokens), settings.tuner_url)


if __name__ == "__main__":
    main()
