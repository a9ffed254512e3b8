"""What every platform shares: the apply protocol, what is kept of online workflows, and how a change is looked at."""
