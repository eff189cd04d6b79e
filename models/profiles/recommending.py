"""Recommends a profile for a machine: the best one that it can run.

What counts is the memory of its GPU, its free memory, and whether the weights are there or can be
fetched. Which profile is better follows the published scores in docs/models.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from regard.core.errors import RegardError
from regard.core.machine import has_network
from regard.models.checkpoints.memory import available_memory
from regard.models.checkpoints.source import format_bytes
from regard.models.profiles.composed import ComposedProfile
from regard.models.profiles.registry import DEFAULT_PROFILE, load_profile

_BEST_FIRST = ("florence", "siglip")
# There with a driver of NVIDIA: on Linux, and on Linux within Windows.
_DRIVERS = ("/proc/driver/nvidia/version", "/dev/dxg")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine offers: free bytes of its first GPU (0: none) and of its memory.

    `is_online`: whether it may and can fetch models.
    """

    gpu_bytes: int
    memory_bytes: int
    is_online: bool

    @classmethod
    def here(cls) -> Machine:
        """This machine now."""
        gpu_bytes = 0
        # Loading torch takes seconds.
        if any(map(os.path.exists, _DRIVERS)):
            import torch

            gpu_bytes = torch.cuda.mem_get_info(0)[0] if torch.cuda.is_available() else 0
        is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        return cls(gpu_bytes, available_memory(), not is_offline and has_network())


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A profile's name, and why it is the one for the machine.

    `cost` is what it takes beyond the default: its download and its memory; empty for the default.
    """

    name: str
    reason: str
    cost: str = ""


def recommend(machine: Machine) -> Recommendation:
    """Recommend one of the shipped profiles."""
    obstacles = []
    for name in _BEST_FIRST:
        profile = load_profile(name)
        room = _room(profile, machine)
        if room is None:
            obstacles.append(_shortage(profile, machine))
            continue
        missing = _missing_bytes(profile)
        if missing and not machine.is_online:
            obstacles.append(f"{name} is not downloaded, and there is no network")
            continue
        files = f"{format_bytes(missing)} to download" if missing else "downloaded already"
        return Recommendation(name, f"{room}; {files}", f"{files}, {_memory(profile, machine)}")
    return Recommendation(DEFAULT_PROFILE, "; ".join(obstacles))


def _room(profile: ComposedProfile, machine: Machine) -> str | None:
    """Where a profile fits, in words; None where it does not."""
    needs = profile.definition
    if machine.gpu_bytes >= needs.gpu_memory_bytes:
        return (
            f"the GPU has {format_bytes(machine.gpu_bytes)} of memory free, "
            f"and it takes about {format_bytes(needs.gpu_memory_bytes)}"
        )
    if needs.memory_bytes and machine.memory_bytes >= needs.memory_bytes:
        gpu = "the GPU is too small" if machine.gpu_bytes else "there is no GPU"
        return (
            f"{gpu}, {format_bytes(machine.memory_bytes)} of memory are free, and it takes "
            f"{_memory(profile, machine)} of {DEFAULT_PROFILE}"
        )
    return None


def _shortage(profile: ComposedProfile, machine: Machine) -> str:
    needs = profile.definition
    if needs.memory_bytes:
        wanted, free, what = needs.memory_bytes, machine.memory_bytes, "memory"
    else:
        wanted, free, what = needs.gpu_memory_bytes, machine.gpu_bytes, "GPU memory"
    there = f"{format_bytes(free)} are free" if free else "there is none"
    return f"{profile.name} takes about {format_bytes(wanted)} of {what}, and {there}"


def _memory(profile: ComposedProfile, machine: Machine) -> str:
    needs = profile.definition
    if machine.gpu_bytes >= needs.gpu_memory_bytes:
        return f"about {format_bytes(needs.gpu_memory_bytes)} of GPU memory"
    # Measured for `siglip`: docs/models.md.
    return f"about {format_bytes(needs.memory_bytes)} of memory, and 45 times the processor time"


def _missing_bytes(profile: ComposedProfile) -> int:
    """About how many bytes of weights would have to be fetched."""
    missing = 0
    for source in profile.sources:
        try:
            source.locate()
        except RegardError:
            missing += source.download_bytes
    return missing


def better_profile() -> str | None:
    """What a better profile than the default would cost on this machine; None without one."""
    advice = recommend(Machine.here())
    if advice.name == DEFAULT_PROFILE:
        return None
    return (
        f"indexing with {DEFAULT_PROFILE}; {advice.name} would find more on this machine "
        f"({advice.cost}): regard models fetch {advice.name}, "
        f"then regard reindex --profile {advice.name}"
    )
