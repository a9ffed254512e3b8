"""`python -m autonomic.agents.planner`: the planner of the home named by AUTONOMIC_HOME."""

import gc


def main() -> None:
    """Runs until SIGTERM."""
    # what is imported stays: looking for garbage among it costs an eighth of the start
    gc.disable()
    from autonomic.agents import logs
    from autonomic.agents.auth import Tokens
    from autonomic.agents.planner.app import create
    from autonomic.agents.serve import serve
    from autonomic.agents.settings import Settings

    settings = Settings.load()
    tokens = Tokens.load(settings.tokens_path)
    logs.setup("planner", tokens.values.values())
    app = create(settings, tokens)
    gc.freeze()
    gc.enable()
    serve(app, settings.planner_url)


if __name__ == "__main__":
    main()
