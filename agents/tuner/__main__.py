"""`python -m autonomic.agents.tuner`: the tuner of the home named by AUTONOMIC_HOME."""

from autonomic.agents.process import run


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    run("tuner")


if __name__ == "__main__":
    main()
