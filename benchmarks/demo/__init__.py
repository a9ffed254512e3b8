"""The main job: a real MNIST service is kept fast and accurate while the world misbehaves."""
