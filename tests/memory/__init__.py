"""A machine wholly in memory, for tests that must be quick and able to stop at any effect as a crash would."""

from memory.crash import Crash
from memory.hosts import bare_host, gpu_host, power_cut
from memory.machine import MemoryMachine

__all__ = ["Crash", "MemoryMachine", "bare_host", "gpu_host", "power_cut"]
