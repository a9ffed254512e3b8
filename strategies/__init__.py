"""Strategies: what is declared, how conditions are judged and decisions made."""
