"""The step tables of a run: one for every kind of worker, also of those that a fault left smaller or slower."""

from __future__ import annotations

from dataclasses import replace

from ...sim.serving.requests.times.shelf import Shelf, shelf_of
from ...sim.serving.requests.times.step_table import Reach, Table, step_table
from ...sim.serving.steady import Setting
from ...sim.step.worker import Arrangement
from .load import Load


class Tables:
    """Step tables as they are asked for, each made once."""

    def __init__(self, setting: Setting, load: Load) -> None:
        self.setting, self.load = setting, load
        self.tables: list[Table] = []
        self.places: dict[object, int] = {}

    def place(self, arrangement: Arrangement, slots: float, chunk: float, nic_share: float, imbalance: float) -> int:
        """Where the table of that worker stands."""
        key = (arrangement, slots, chunk, nic_share, imbalance)
        if key not in self.places:
            setting = self.setting
            if nic_share != 1.0:
                node = setting.cluster.node
                slow = node.nic.model_copy(update={"bandwidth": node.nic.bandwidth * nic_share})
                cluster = setting.cluster.model_copy(update={"node": node.model_copy(update={"nic": slow})})
                setting = replace(setting, cluster=cluster)
            if imbalance:
                setting = replace(setting, skew=replace(setting.skew, rank_imbalance=setting.skew.rank_imbalance + imbalance))
            reach = Reach(max(2.0, slots / float(arrangement.pp)), float(max(self.load.longest, 1024)), chunk)
            self.places[key] = len(self.tables)
            self.tables.append(step_table(setting, arrangement, reach))
        return self.places[key]

    def whole(self) -> Shelf:
        """All of them, as the loop reads them."""
        return shelf_of(self.tables)
