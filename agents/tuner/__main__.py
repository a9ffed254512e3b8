"""`python -m autonomic.agents.tuner`: the tuner of the home named by AUTONOMIC_HOME."""

import gc


def main() -> None:
    """Runs until SIGTERM."""
    # what is imported stays: looking for garbage among it costs an eighth of the start
    gc.disable()
    from autonomic.agents import logs
    from autonomic.agents.auth import Tokens
    from autonomic.agents.serve import serve
    from autonomic.agents.settings import Settings
    from autonomic.agents.tuner.service import create

    settings = Settings.load()
    tokens = Tokens.load(settings.tokens_path)
    logs.setup("tuner", tokens.values.values())
    app = create(settings, tokens)
    gc.freeze()
    gc.enable()
    serve(app, settings.tuner_url)


if __name__ == "__main__":
    main()
