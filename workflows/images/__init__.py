"""Container images with the package autonomic and what a team's steps need."""
