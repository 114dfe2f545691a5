"""The benchmarks: rivals do the same job, the table holds every ratio, and bars are evaluated."""

import json
import platform
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import agree, cases, measure, memory, report, rivals, rows, stages, start, suite
from benchmarks.rivals import BOTH, CLONE, CONTENDERS, FORWARD, OPENCV
from benchmarks.rows import LANDS, LOST, MET, MISSED, OURS, A, Row, time_row

SMALL = cases.Case("S", 2, 32, 4, (6, 12))
BRIEF = suite.Settings(
    threads=1, rounds=2, patience=0.0, least=1, parts={"S": 2}, counts=(2, 4), memory_of=("ours", "c")
)
LABELS = {key: contender.label for key, contender in CONTENDERS.items()}


@pytest.mark.slow
def test_the_rivals_do_the_same_job():
    agree.check_rivals()


def test_a_fiftieth_of_a_pixel_or_another_order_is_noticed():
    with pytest.raises(AssertionError, match="not close"):
        agree.opencv_agrees(shift=0.02)  # of half a box
    with pytest.raises(AssertionError, match="not close"):  # crops from the canvas, not from the input
        agree.agree(rivals.clone_and_assign, rivals.ours, agree.CROWD)
    half = torch.tensor([0.5, 0.5, 0.5, 0.5])
    with pytest.raises(AssertionError, match="not close"):
        agree.agree(lambda i, b, t, o: rivals.ours(i, b + half, t, o), rivals.ours, agree.CROWD)


def test_opencv_writes_into_its_own_output():
    scene = cases.make_scene(SMALL)
    before = scene.images.clone()
    run = rivals.opencv_loop(scene)
    assert run().data_ptr() == run().data_ptr()
    assert torch.equal(scene.images, before)


def test_scenes_are_as_the_cases_say():
    for case in (*cases.CASES, cases.ONE_IMAGE, cases.growing(100)):
        scene = cases.make_scene(case._replace(batch=2, side=max(case.side // 2, case.sides[1])))
        size = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert size.min() >= case.sides[0] and size.max() <= case.sides[1]
        assert scene.boxes.min() >= 0 and scene.boxes.max() <= scene.images.shape[-1]
        assert scene.obj_to_img.tolist() == [n % 2 for n in range(case.objects)]
        assert scene.area == int(size.prod(1).sum())


def test_every_contender_meets_ours_in_both_directions():
    log = []
    table = list(suite.time_rows(SMALL, BRIEF, log))
    rivals_of_ours = {LABELS[key] for key in "abce"} | {CLONE}
    expected = {(FORWARD, OURS, rival) for rival in rivals_of_ours | {OPENCV}}
    expected |= {(BOTH, OURS, rival) for rival in rivals_of_ours}
    expected |= {(d, LABELS["sequential"], LABELS[key]) for d in (FORWARD, BOTH) for key in "ab"}
    assert {(row.measured, row.contender, row.rival) for row in table} == expected
    assert len(table) == len(expected)
    assert all(row.ratio == pytest.approx(row.theirs / row.ours) and row.ratio > 0 for row in table)
    with_bar = {(row.measured, row.rival): row.bar for row in table if row.bar is not None}
    assert with_bar == {(FORWARD, A): 2.5, (BOTH, A): 3.5}
    in_parts = {(row.measured, row.rival) for row in table if row.note == "timed on 1 and 2 of 4 objects"}
    assert in_parts == {(d, LABELS[key]) for d in (FORWARD, BOTH) for key in "abc"} | {(BOTH, LABELS["e"])}
    assert {e["objects"] for e in log if e["contender"] == "a"} == {1, 2}
    assert all(e["quartiles"][0] <= e["seconds"] <= e["quartiles"][1] for e in log)


def test_a_slow_contender_is_marked_from_measurement_to_table(monkeypatch):
    def slow(*scene):
        time.sleep(measure.LONG)
        return rivals.ours(*scene)

    monkeypatch.setitem(CONTENDERS, "ours", CONTENDERS["ours"]._replace(run=slow))
    table = list(suite.time_rows(SMALL, BRIEF, []))
    against_a = [row for row in table if (row.contender, row.rival) == (OURS, A)]
    assert [row.verdict for row in against_a] == [MISSED, MISSED]
    assert sum(MISSED in line for line in report.table(table).splitlines()) == 2
    summary = report.summary(table)
    assert summary.startswith("2 of 2 bars missed.")
    assert f"{MISSED}: S {FORWARD}, {OURS} against {A}" in summary


def test_options_are_held_against_the_plain_call():
    table = list(suite.option_rows(SMALL, BRIEF))
    assert {row.rival for row in table} == {OURS} and {row.bar for row in table} == {1 / 1.4}
    forward = ["ours, alpha (N,)", "ours, a matte", "ours, transparent"]
    found = [(row.measured, row.contender) for row in table]
    assert found == [
        *((FORWARD, name) for name in forward),
        *((BOTH, n) for n in (*forward, "ours, gradients to boxes")),
    ]


VERDICTS = [  # case, direction, contender, rival, times better, verdict
    ("L", FORWARD, OURS, A, 1.5, MET),
    ("L", FORWARD, OURS, A, 1.49, MISSED),
    ("L", BOTH, OURS, A, 99, MISSED),
    ("L", BOTH, OURS, A, 100, MET),
    ("M", BOTH, OURS, A, 8, MET),
    ("M", BOTH, OURS, A, 7.9, MISSED),
    ("XL", BOTH, OURS, A, 2, MET),
    ("S", BOTH, OURS, A, 3.4, MISSED),
    ("S", FORWARD, OURS, A, 2.5, MET),
    ("M", FORWARD, OURS, OPENCV, 1, MET),
    ("M", FORWARD, OURS, OPENCV, 0.67, LANDS),
    ("XL", FORWARD, OURS, OPENCV, 0.66, MISSED),
    ("S", FORWARD, OURS, OPENCV, 0.5, LOST),  # no bar there, but said
    ("L", FORWARD, OURS, LABELS["c"], 0.99, LOST),
    ("L", FORWARD, OURS, LABELS["c"], 1.01, ""),
    ("L", FORWARD, OURS, CLONE, 0.1, ""),
    ("L", BOTH, LABELS["sequential"], A, 50, ""),  # bars are for the default
    ("L", BOTH, LABELS["sequential"], A, 0.9, LOST),
]


@pytest.mark.parametrize(("case", "direction", "contender", "rival", "times", "verdict"), VERDICTS)
def test_bars(case, direction, contender, rival, times, verdict):
    assert time_row(case, direction, contender, rival, 1.0, float(times)).verdict == verdict


def test_bars_of_cuda_are_its_own():
    assert time_row("M64", FORWARD, OURS, CLONE, 2.0, 1.0, device="cuda").verdict == MET
    assert time_row("M64", BOTH, OURS, CLONE, 5.1, 1.0, device="cuda").verdict == MISSED
    assert time_row("L", FORWARD, OURS, A, 1.0, 1.2, device="cuda").bar is None


def test_an_exponent_is_at_most_its_bar():
    row = partial(Row, "growth", FORWARD, OURS, "100 objects", "s", 1.0, 1.0, bar=1.05, at_most=True)
    assert (row(ratio=1.05).verdict, row(ratio=1.06).verdict) == (MET, MISSED)


def test_the_exponent_of_a_power_is_the_power():
    for power in (0.5, 1.0, 2.0):
        assert suite.growth_exponent({n: 3.0 * n**power for n in (100, 200, 1600)}) == pytest.approx(power)


def test_a_straight_line_is_extended_exactly():
    def line(n):
        return 0.25 + 0.5 * n

    assert suite.extended({1: line(1), 16: line(16)}, 400) == pytest.approx(line(400))
    assert suite.extended({1: 2.0, 16: 1.0}, 400) == 2.0  # noise makes no time negative


def test_turns_rotate_and_patience_ends(monkeypatch):
    order = []
    monkeypatch.setattr(measure, "_single", lambda call, known, count: call())
    calls = {"slow": lambda: order.append("slow") or 2.0, "fast": lambda: order.append("fast") or 0.1}
    assert measure.interleaved(calls, rounds=4, patience=3.0, count=1) == {"slow": [2.0] * 2, "fast": [0.1] * 4}
    assert order == ["slow", "fast", "fast", "slow", "fast", "fast"]
    assert measure.interleaved(calls, rounds=4, patience=0.0, least=3, count=1)["slow"] == [2.0] * 3


def test_one_call_takes_as_long_as_it_sleeps():
    for length in (0.01, measure.LONG + 0.01):  # repeated, and once
        (taken,) = measure.interleaved({"nap": lambda s=length: time.sleep(s)}, rounds=1, patience=0.0, count=1)["nap"]
        assert length <= taken < 3 * length


@pytest.mark.slow
def test_memory_is_beyond_inputs_and_output_and_sees_the_gathered_images():
    case = cases.Case("M", 1, 512, 16, (32, 64))
    images = 3 * 512 * 512 * 4
    table = list(suite.memory_rows(case, BRIEF))
    assert [(row.contender, row.rival) for row in table] == [(OURS, rows.BOUND), (OURS, LABELS["c"])]
    scene = cases.make_scene(case)
    assert table[0].theirs * 1e6 == memory.bound(scene) == 3 * images + 24 * 3 * scene.area
    assert table[0].ratio == pytest.approx(table[0].theirs / table[0].ours)
    assert 16 * images < table[1].theirs * 1e6 < 100 * images


@pytest.mark.slow
def test_a_run_writes_json_and_markdown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "CASES", (SMALL,))
    monkeypatch.setattr(command, "QUICK", replace(BRIEF, quick=True))
    monkeypatch.setattr(suite, "ONE_IMAGE", SMALL._replace(name="1", batch=1))
    monkeypatch.setattr(suite, "growing", lambda n: SMALL._replace(name="growth", objects=n))
    out, page = tmp_path / "new" / "bench.json", tmp_path / "results.md"
    assert command.main(["--quick", "--threads", "1", "--out", str(out), "--markdown", str(page)]) == 0
    text = out.read_text()
    content = json.loads(text)
    assert set(content) == {"versions", "machine", "settings", "rows", "stages", "times"}
    assert {"python", "torch", "kornia", "numba", "opencv", "numpy"} <= set(content["versions"])
    assert {"processor", "cores", "memory_gib"} <= set(content["machine"])
    assert platform.node() not in content["machine"].values()
    assert str(Path.cwd()) not in text and str(tmp_path) not in text
    assert {row["measured"] for row in content["rows"]} == {FORWARD, BOTH}
    assert {row["case"] for row in content["rows"]} == {"S", "growth: 2 to 4 objects", "1"}
    assert all({"ours", "theirs", "ratio", "bar", "verdict"} <= set(row) for row in content["rows"])
    printed = capsys.readouterr().out
    parts = dict(re.findall(r"\[start:(\w+)\] -->\n\n(.*?)\n\n<!-- --8<-- \[end:\1\]", page.read_text(), flags=re.S))
    assert set(parts) == {"machine", "cases", "legend", "ratios", "rows", "stages"}
    lines = parts["rows"].splitlines()
    assert len(lines) == 2 + len(content["rows"])
    assert len({len(line) for line in lines}) == 1
    tables = "\n".join(parts[part] for part in ("rows", "ratios", "stages"))
    assert all(line in printed for line in tables.splitlines() if line.startswith("|"))
    assert len(content["stages"]) == 9


def test_the_stages_one_after_another_are_the_call():
    calls = stages.forward_calls(SMALL, BRIEF)
    expected = rivals.ours(*cases.make_scene(SMALL))
    for stage in (stages.COMPOSITE, stages.SWEEP, stages.CALL):
        torch.testing.assert_close(calls[stage](), expected)


def test_a_stage_that_sleeps_has_the_share_that_it_sleeps(monkeypatch):
    def nap():
        time.sleep(0.05)

    monkeypatch.setattr(stages, "forward_calls", lambda *_: {"half": nap, stages.CALL: lambda: (nap(), nap())})
    half, whole = stages.stage_times(SMALL, BRIEF)[:2]
    assert 0.05 <= half.seconds < 0.1 <= whole.seconds
    assert half.share == pytest.approx(0.5, abs=0.2)
    assert "| half | forward | 5" in stages.stage_table([half, whole])


def test_the_table_of_ratios_holds_the_default_against_each_and_marks_a_loss():
    row = partial(time_row, "S", FORWARD, OURS)
    lines = report.ratio_table(
        [
            row(LABELS["c"], 1.0, 5.534),
            row(OPENCV, 2.0, 1.0),
            row(CLONE, 2.0, 1.0),
            time_row("S", FORWARD, LABELS["sequential"], A, 1.0, 7.0),
            Row("M", "peak memory", OURS, LABELS["c"], "MB", 2.0, 123.0, 61.5),
            Row("growth: 1 to 2", FORWARD, OURS, "1 object", "s", 1.0, 1.0, 0.5, 1.05, at_most=True),
        ]
    ).splitlines()
    assert lines[0] == f"| case | measured | {LABELS['c']} | {OPENCV} |"
    assert lines[2:] == ["| S | forward | 5.53 | **0.5** |", "| M | peak memory | 61.5 |  |"]


def test_the_first_call_of_a_process_compiles_and_later_ones_are_measured_at_their_best(monkeypatch):
    taken = iter([9.0, 0.6, 0.4, 0.7])
    monkeypatch.setattr(start, "_seconds", lambda environment: next(taken))
    first, later = start.start_rows(again=3)
    assert (first.ours, first.bar, first.verdict) == (9.0, None, "")
    assert (later.ours, later.ratio, later.verdict) == (0.4, 1.25, MET)
    monkeypatch.setattr(start, "_seconds", lambda environment: 0.6)
    assert [row.verdict for row in start.start_rows()] == ["", MISSED]
