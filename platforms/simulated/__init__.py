"""A platform that is computed: services as queues, runs with set durations, a registry, under a clock of the caller."""

from autonomic.platforms.simulated.platform import Batch, SimulatedPlatform
from autonomic.platforms.simulated.queueing import Load
from autonomic.platforms.simulated.recorder import SimulatedRecorder
from autonomic.platforms.simulated.registry import SimulatedRegistry
from autonomic.platforms.simulated.signal import SimulatedSignal

__all__ = ["Batch", "Load", "SimulatedPlatform", "SimulatedRecorder", "SimulatedRegistry", "SimulatedSignal"]
