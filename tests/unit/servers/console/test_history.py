"""An hour of samples in memory: bounded, with gaps where nothing is known, and the charts that are drawn of it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.history import History, QueueSample, Rate, Sample, last_of
from avion_media.common.tasks import CACHE_QUEUE, PROCESSING_QUEUE
from avion_media.servers.console.charts import Span, figure

HOUR = Span(1_795_616_000.0, 60.0)  # 14:13:20 UTC


def sample(at: float, depth: int, added: int, other: int = 0) -> Sample:
    def queue(depth: int, added: int) -> QueueSample:
        stats = QueueStats(
            depth=depth, lag=0, pending=0, oldest_age_s=depth, delayed=0, next_due=None, dead_letters=0, consumers=1
        )
        return QueueSample(stats, added, 0)

    return Sample(at, {PROCESSING_QUEUE: queue(depth, added), CACHE_QUEUE: queue(other, other)})


def test_an_hour_is_kept_and_no_more_than_four_samples_a_minute() -> None:
    history = History()
    for second in range(0, 2 * 3600, 5):
        history.add(sample(second, second, 0))
    depths = history.highest_of("depth")
    assert len(depths) == 60
    assert None not in depths
    assert depths[-1] == 7195
    assert len(history._kept) <= 242


def test_growth_needs_two_samples_that_follow_each_other() -> None:
    history = History()
    for minute, added in ((0, 100), (1, 130), (2, 190), (9, 500), (10, 504)):
        history.add(sample(minute * 60, 0, added, other=0))
    grown = history.growth_of("added")
    assert grown[-11:] == [None, 30, 60, None, None, None, None, None, None, None, 4]
    assert last_of(grown) == 4


def test_times_to_ready_are_those_of_each_minute() -> None:
    history = History()
    for minute, (one_s, two_s, endless) in enumerate(((7, 0, 0), (7, 0, 0), (16, 1, 0), (16, 1, 3))):
        figures = {"ready:1": one_s, "ready:2": two_s, "ready:inf": endless}
        history.add(replace(sample(minute * 60, 0, 0), figures=figures))
    median, p95 = history.ready_times(0.5, 0.95)
    assert median[-3:] == [None, pytest.approx(0.5 + 0.5 * 5 / 9), 1800]
    assert p95[-3:] == [None, pytest.approx(1.5), 1800]


def test_a_loss_of_redis_is_no_negative_rate() -> None:
    history = History()
    history.add(sample(0, 0, 1000))
    assert history.rate(PROCESSING_QUEUE) is None
    history.add(sample(20, 10, 1100))
    assert history.rate(PROCESSING_QUEUE) == Rate(added=5.0, ended=4.5)
    history.add(sample(80, 0, 3))
    assert history.rate(PROCESSING_QUEUE) is None
    assert min(each for each in history.growth_of("added") if each is not None) >= 0


def test_all_queues_together_are_their_sum_and_the_oldest_age() -> None:
    history = History()
    history.add(sample(0, 7, 7, other=2))
    assert history.highest_of("depth")[-1] == 9
    assert history.highest_of("oldest_age_s")[-1] == 7
    assert history.highest_of("depth", CACHE_QUEUE)[-1] == 2


def test_charts_are_xml_with_a_label_and_their_lines_break_at_gaps() -> None:
    chart = ElementTree.fromstring(figure([1, 2, None, 4], 'tasks "now" <b>', HOUR, limit=3, second=[1, 1, 1, 1]))
    drawn = chart.find("div/svg")
    assert drawn is not None
    assert drawn.attrib["aria-label"] == 'tasks "now" <b>'
    line = next(path.attrib["d"] for path in drawn if "class" not in path.attrib)
    assert line.count("M") == 2
    assert [path.attrib.get("class") for path in drawn] == ["grid", "second", "limit", "area", "area", None, "tip"]
    assert drawn.attrib["data-values"] == "1,2,,4|1,1,1,1"  # for the script
    assert figure([], "nothing yet", HOUR)
    assert figure([None, 0, 3], "bars", HOUR, bars=True, is_bare=True).count("V") == 1


def test_marks_are_drawn_where_they_are_on_the_time_axis() -> None:
    drawn = figure([1, 2], "marks", HOUR, marks=[HOUR.start - 1, HOUR.start + 60, HOUR.start + 121], is_bare=True)
    assert re.findall('class="mark" d="([^"]+)"', drawn) == ["M59.0 0v40"]


def test_a_single_value_is_a_dot_and_grey_bars_stand_on_the_others() -> None:
    assert 'd="M59.0 21.5h.9"' in figure([None, 1, None], "a dot", HOUR, at_least=2, is_bare=True)
    both = figure([1, 0], "bars", HOUR, second=[1, 2], bars=True, at_least=4, is_bare=True)
    assert 'class="second bars" d="M29.5 40V21.5M88.5 40V21.5"' in both
    assert 'class="bars" d="M29.5 40V30.8"' in both
    assert 'data-values="1,0|1,2"' in both


@pytest.mark.parametrize(
    ("highest", "unit", "shown"),
    [
        (3, "", ["4", "2"]),
        (61, "", ["80", "40"]),
        (1_300, "", ["2,000", "1,000"]),
        (153, "MiB", ["200 MiB", "100 MiB"]),
        (130, "s", ["4 min", "2 min"]),
        (400_000, "s", ["6 d", "3 d"]),
    ],
)
def test_a_chart_has_a_scale_and_a_time_axis(highest: float, unit: str, shown: list[str]) -> None:
    chart = ElementTree.fromstring(figure([0, highest], "x", HOUR, unit=unit))
    assert [each.text for each in chart.findall("div/span")] == shown
    assert [each.text for each in chart.findall("p/span")] == ["14:13", "14:14", "now"]
