"""Which profile is recommended for a machine, and why."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from made_library import Library

from regard.core import machine
from regard.models.profiles import recommending
from regard.models.profiles.recommending import Machine, better_profile, recommend

GB = 10**9


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is downloaded, and no profile is the user's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path / "profiles"))


@pytest.mark.parametrize(
    ("offer", "name", "words"),
    [
        (Machine(24 * GB, 30 * GB, True), "florence", ["24 GB", "10 GB", "7.04 GB to download"]),
        (Machine(6 * GB, 30 * GB, True), "siglip", ["6 GB", "2.5 GB", "1.54 GB to download"]),
        (Machine(1 * GB, 30 * GB, True), "siglip", ["the GPU is too small", "30 GB", "4 GB"]),
        (Machine(0, 8 * GB, True), "siglip", ["there is no GPU", "8 GB", "1.54 GB"]),
        (Machine(0, 2 * GB, True), "lite", ["siglip takes about 4 GB of memory", "2 GB are free"]),
        (Machine(0, 8 * GB, False), "lite", ["siglip is not downloaded", "no network"]),
        (Machine(24 * GB, 8 * GB, False), "lite", ["florence is not downloaded"]),
    ],
)
def test_the_best_that_fits_is_recommended(offer: Machine, name: str, words: list[str]) -> None:
    advice = recommend(offer)
    assert advice.name == name
    for word in words:
        assert word in advice.reason
    assert (advice.cost == "") == (name == "lite")


def test_downloaded_models_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommending, "_missing_bytes", lambda profile: 0)
    advice = recommend(Machine(0, 8 * GB, False))
    assert advice.name == "siglip"
    assert "downloaded already" in advice.reason


def test_a_new_home_is_told_of_a_better_profile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: cls(0, 8 * GB, True)))
    made = Library(tmp_path)
    made.photo("1.png", 1)
    first = made.run("index", made.photos, "--json")
    assert first.err.count("\n") == 1
    assert "siglip" in first.err
    assert "1.54 GB to download" in first.err
    assert "regard models fetch siglip" in first.err
    assert first.document["indexed"] == 1
    made.photo("2.png", 2)
    assert made.run("index", made.photos, "--json").err == ""


def test_a_machine_without_a_network_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not Machine.here().is_online
    monkeypatch.delenv("HF_HUB_OFFLINE")

    class Unreachable(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr(machine.socket, "socket", Unreachable)
    assert not machine.has_network()
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: cls(0, 8 * GB, False)))
    assert better_profile() is None
