"""`python -m autonomic.agents.planner`: the planner of the home named by AUTONOMIC_HOME."""

from autonomic.agents.process import run


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    run("planner")


if __name__ == "__main__":
    main()
