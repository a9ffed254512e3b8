"""Where workflows run: Ray, and a simulation under a virtual clock."""
