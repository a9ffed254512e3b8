"""A model of one's own: an MLP on the 13 measurements of a wine, logged and registered with MLflow as a notebook would do it."""

import mlflow
import numpy as np
import torch
from sklearn.datasets import load_wine

data = load_wine()
rows = ((data.data - data.data.mean(axis=0)) / data.data.std(axis=0)).astype(np.float32)
classes = torch.from_numpy(data.target)

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(13, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(100):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(rows)), classes)
    loss.backward()
    optimizer.step()

mlflow.set_experiment("wine")
with mlflow.start_run():
    mlflow.log_metric("loss", float(loss))
    logged = mlflow.pytorch.log_model(
        model.eval(),
        name="model",
        input_example=rows[:5],  # two rows or more: an example of one row fixes the batch at one
        registered_model_name="wine",
        metadata={"autonomic": {"postprocess": "classifier"}},  # logits become probabilities and label
    )
mlflow.MlflowClient().set_registered_model_alias("wine", "champion", logged.registered_model_version)
print(f"wine version {logged.registered_model_version} is the champion")
