"""A platform that is computed: services as queues, runs with set durations, a registry, under a clock of the caller."""

from autonomic.workflows.platforms.simulated.platform import Batch, SimulatedPlatform
from autonomic.workflows.platforms.simulated.queueing import Load
from autonomic.workflows.platforms.simulated.recorder import SimulatedRecorder
from autonomic.workflows.platforms.simulated.registry import SimulatedRegistry
from autonomic.workflows.platforms.simulated.signal import SimulatedSignal

__all__ = ["Batch", "Load", "SimulatedPlatform", "SimulatedRecorder", "SimulatedRegistry", "SimulatedSignal"]
