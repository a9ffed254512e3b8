"""The model registry and the run tracking of MLflow, over its REST interface: agents and steps start without mlflow."""
