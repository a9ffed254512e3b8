"""An agent as a process of its own."""

import gc
import importlib


def run(agent: str) -> None:
    """Runs the agent of the home named by AUTONOMIC_HOME until SIGTERM or SIGINT.

    Its module `app` has `create(settings, tokens)`, which makes the service.

    Raises:
        Permanent: the home has no settings, or they or its tokens cannot be used.
    """
    # what is imported stays: looking for garbage among it costs an eighth of the start
    gc.disable()
    from autonomic.agents import logs
    from autonomic.agents.auth import Tokens
    from autonomic.agents.serve import serve
    from autonomic.agents.settings import Settings

    create = importlib.import_module(f"autonomic.agents.{agent}.app").create
    settings = Settings.load()
    tokens = Tokens.load(settings.tokens_path)
    logs.setup(agent, tokens.values.values())
    app = create(settings, tokens)
    gc.freeze()
    gc.enable()
    serve(app, getattr(settings, f"{agent}_url"), settings.listen_address)
