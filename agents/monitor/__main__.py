"""`python -m autonomic.agents.monitor`: the monitor of the home named by AUTONOMIC_HOME."""

from autonomic.agents.process import run


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    run("monitor")


if __name__ == "__main__":
    main()
