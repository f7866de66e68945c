"""Quantities and devices, taken and given back."""

from __future__ import annotations

from orchestrator.common.resources import UNITS_PER_WHOLE, ResourceSet
from orchestrator.scheduling.accounts import Account


def resources(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


def machine(gpus: int = 2) -> Account:
    devices = {"GPU": {str(number): UNITS_PER_WHOLE for number in range(gpus)}}
    return Account(resources(CPU=4, GPU=gpus), devices)


def test_fractions_fill_one_device_before_the_next() -> None:
    account = machine()
    third = resources(GPU=0.3)
    assert [set(account.take(third)["GPU"]) for _ in range(4)] == [{"0"}, {"0"}, {"0"}, {"1"}]


def test_parts_of_several_devices_are_no_whole_one() -> None:
    account = machine()
    for _ in range(2):
        account.take(resources(GPU=0.6))
    assert account.available["GPU"] == resources(GPU=0.8)["GPU"]
    assert account.fits(resources(GPU=0.4)) and not account.fits(resources(GPU=0.8))


def test_what_is_given_back_can_be_taken_again() -> None:
    account = machine()
    wanted = resources(CPU=1, GPU=2)
    devices = account.take(wanted)
    assert devices == {"GPU": {"0": UNITS_PER_WHOLE, "1": UNITS_PER_WHOLE}}
    assert not account.fits(resources(GPU=0.1))
    account.give(wanted, devices)
    assert account.fits(wanted) and account.available == account.total


def test_one_and_a_half_devices_are_no_number_of_devices() -> None:
    assert not machine().fits(resources(GPU=1.5))


def test_parts_are_split_off_together_or_not_at_all() -> None:
    account = machine()
    parts = account.split([resources(CPU=1, GPU=1), resources(CPU=2)])
    assert parts is not None and account.available == resources(CPU=1, GPU=1)
    assert account.split([resources(CPU=1), resources(CPU=1)]) is None
    assert account.available == resources(CPU=1, GPU=1), "nothing was taken"
    (held,) = parts[0].take(resources(GPU=1))["GPU"]
    assert held not in {device for device, units in account.free["GPU"].items() if units}


def test_what_is_left_of_a_part_comes_back_first_and_the_rest_later() -> None:
    account = machine()
    parts = account.split([resources(CPU=3, GPU=1)])
    assert parts is not None
    devices = parts[0].take(resources(CPU=1, GPU=0.5))
    account.merge(parts[0])
    assert account.available == resources(CPU=3, GPU=1.5)
    account.give(resources(CPU=1, GPU=0.5), devices)
    assert account.available == account.total and account.fits(resources(GPU=2))
