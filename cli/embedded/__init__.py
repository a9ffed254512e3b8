"""The real parts that one machine needs, started on loopback and free ports: Ray, MLflow and Prometheus."""
