"""The benchmarks: rivals do the same job, the table holds every ratio, and bars are evaluated."""

import json
import math
import platform
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support import oracle
from support.vision import torchvision

import kornia_patchaug as kp
from benchmarks import __main__ as command
from benchmarks import (
    agree,
    beside,
    cases,
    measure,
    memory,
    options,
    painted,
    reach,
    report,
    rivals,
    rows,
    stages,
    start,
    suite,
)
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


@pytest.mark.slow
def test_options_are_held_against_the_plain_call_in_all_and_for_each_pixel():
    table = list(options.option_rows(SMALL, BRIEF))
    assert {row.rival for row in table} == {OURS}
    whole = ["ours, alpha (N,)", "ours, a matte", "ours, transparent"]
    each = ["ours, a matte", "ours, a mask", "ours, clip=False"]
    assert [(row.measured, row.contender, row.bar) for row in table] == [
        *((FORWARD, name, 1 / 1.4) for name in whole),
        *((f"{FORWARD}, per painted pixel", name, 1 / 1.5) for name in each),
        *((BOTH, name, 1 / 1.4) for name in (*whole, "ours, gradients to boxes")),
        *((f"{BOTH}, per painted pixel", name, 1 / 1.5) for name in each),
    ]


def test_the_time_of_a_painted_pixel_is_that_of_the_call_over_how_many_there_are(monkeypatch):
    taken = {"ours, a mask": 6.0, "ours, clip=False": 8.0}
    monkeypatch.setattr(suite.Settings, "interleaved", lambda _, calls: {who: [taken.get(who, 4.0)] for who in calls})
    scene = cases.make_scene(SMALL)
    rows_of = {
        row.contender: row for row in options.option_rows(SMALL, BRIEF) if row.measured.startswith(FORWARD + ",")
    }
    counts = {
        "ours, a mask": painted.painted_pixels(scene),
        "ours, clip=False": painted.painted_pixels(scene, clip=False),
    }
    for who, count in counts.items():
        assert rows_of[who].ours == pytest.approx(taken[who] / count)
        assert rows_of[who].ratio == pytest.approx((4 / painted.painted_pixels(scene)) / (taken[who] / count))
        assert f"| {taken[who] / count * 1e9:.4g} ns/px | ours " in report.table([rows_of[who]])


def test_painted_pixels_are_those_of_the_definition():
    scene = cases.make_scene(SMALL._replace(objects=3))
    boxes, masks = scene.boxes.tolist(), painted.ellipses(scene)
    stays = scene._replace(theta=torch.eye(2, 3).repeat(3, 1, 1))
    assert painted.painted_pixels(stays) == painted.painted_pixels(stays, clip=False) == scene.area
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        assert mask.sum() == mask[y1:y2, x1:x2].sum() == pytest.approx(math.pi / 4 * (x2 - x1) * (y2 - y1), rel=0.2)
    moves = stays._replace(boxes=torch.tensor([[4, 6, 12, 20]] * 3), theta=stays.theta.clone())
    moves.theta[0, 0, 2] = 4 / 4  # 4 pixels to the left, all inside
    moves.theta[1, 0, 2] = 7 / 4  # 7, of which 3 are outside
    moves.theta[2, 1, 2] = 0.5 / 7  # half a pixel up: another row of pixels is touched
    assert painted.painted_pixels(moves, clip=False) == 8 * 14 + 5 * 14 + 8 * 15
    assert painted.painted_pixels(moves) == 4 * 14 + 1 * 14 + 8 * 14  # of which the box shows the rest


def test_a_fill_costs_what_it_adds_for_each_layer(monkeypatch):
    taken = {OURS: 1.0, options.FILL: 7.0, CLONE: 0.5}
    monkeypatch.setattr(suite.Settings, "interleaved", lambda _, calls: {who: [taken[who]] for who in calls})
    chain = torch.tensor([[0, 0, 8, 8], [6, 0, 14, 8], [20, 0, 30, 8], [12, 0, 18, 8]])  # of 3, and one apart
    scene = cases.make_scene(SMALL)._replace(boxes=chain, obj_to_img=torch.zeros(4, dtype=torch.long))
    monkeypatch.setattr(options, "make_scene", lambda *_: scene)
    first, second = options.fill_rows(SMALL, BRIEF)
    assert (first.ours, first.theirs, first.ratio, first.bar) == (2.0, 0.5, 0.25, 1 / 6)
    assert (first.verdict, second.bar, second.verdict) == (MET, None, "")
    assert "each of 3 layers" in first.note
    taken[options.FILL] = 11.0
    assert next(iter(options.fill_rows(SMALL, BRIEF))).verdict == MISSED


@pytest.mark.slow
def test_a_canvas_an_object_does_the_same_job():
    agree.check_reach(jobs=reach.SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("job", reach.SMALL, ids=lambda job: job.name)
def test_a_canvas_an_object_is_what_the_definition_says(job):
    job = job._replace(side=job.side // 2, patch=job.patch // 2)
    given = job.inputs()
    expected = torch.from_numpy(reach.ours(given, paste=oracle.paste_patches)).float()
    painted, where = reach.runs(job)[reach.RIVAL](given), agree.beside_rims(given)
    torch.testing.assert_close(where * painted, where * expected, atol=1e-4, rtol=0)
    assert ((expected - given.images).abs() > 0.1).float().mean() > 0.02  # something is painted


@pytest.mark.slow
@pytest.mark.parametrize("job", reach.SMALL, ids=lambda job: job.name)
def test_a_fiftieth_of_a_pixel_or_another_order_is_noticed_where_objects_are_laid_anywhere(job):
    def shifted(given):
        return reach.ours(given._replace(boxes=given.boxes + 0.02))

    def turned_over(given):
        rows = torch.arange(len(given.boxes)).flip(0)
        parts = {name: getattr(given, name)[rows] for name in ("boxes", "theta", "obj_to_img")}
        index = rows if given.patch_index is None else given.patch_index[rows]
        return reach.ours(given._replace(**parts, patch_index=index))

    for wrong in (shifted, turned_over) if job.each > 1 else (shifted,):
        with pytest.raises(AssertionError, match="not close"):
            agree.reach_agrees(job, run=wrong)


@pytest.mark.parametrize("job", (*reach.SMALL, *reach.JOBS), ids=str)
def test_pastings_are_as_the_jobs_say(job):
    given = job.inputs()
    count = job.batch * job.each
    assert given.images.shape == (job.batch, 3, job.side, job.side)
    assert given.patches.shape[1:] == (3, job.patch, job.patch)
    assert given.obj_to_img.tolist() == [n // job.each for n in range(count)]
    assert given.theta.shape == (count, 2, 3) and given.boxes.shape == (count, 4)
    assert all(torch.equal(a, b) for a, b in zip(given, job.inputs(), strict=True) if isinstance(a, torch.Tensor))
    if given.mattes is None:
        assert given.patches.min() > 0  # the rival takes 0 for what is not there
        moved = kp.move_boxes(given.boxes, given.theta, clip=False)
        assert (moved[:, 2:] - moved[:, :2]).max() < 0.25 * job.side
    else:
        rim = torch.ones_like(given.mattes, dtype=torch.bool)
        rim[..., 1:-1, 1:-1] = False
        assert given.mattes[rim].abs().max() == 0  # they end before the rim, which is darker in the rivals
        assert given.mattes.max() <= 1
    assert set(job.learned) <= set(given._fields)
    assert agree.beside_rims(given).mean() > 0.8


@pytest.mark.slow
def test_a_canvas_an_object_is_met_in_time_and_memory(monkeypatch):
    log = []
    for job in reach.SMALL:
        time_of, memory_of = suite.reach_rows(job, BRIEF, log)
        assert (time_of.case, time_of.measured, time_of.contender, time_of.rival) == (job.name, BOTH, OURS, reach.RIVAL)
        assert (memory_of.measured, memory_of.unit) == (rows.MEMORY, "MB")
        assert (time_of.bar, memory_of.bar) == ((10, 20) if job.name == "P1" else (5, 5))
        assert time_of.ratio == pytest.approx(time_of.theirs / time_of.ours)
        assert memory_of.ratio == pytest.approx(memory_of.theirs / memory_of.ours)
    assert [entry["contender"] for entry in log] == [OURS, reach.RIVAL] * 3
    assert len(list(suite.reach_rows(reach.SMALL[0], replace(BRIEF, quick=True), []))) == 1
    monkeypatch.setattr(reach, "measured_peak", lambda job, who, *_: None if who == reach.RIVAL else 1)
    died = list(suite.reach_rows(reach.SMALL[0], BRIEF, []))[1]
    assert (died.theirs, died.ratio, died.verdict) == (None, None, "") and "died" in died.note


@pytest.mark.slow
def test_memory_of_a_canvas_an_object_is_that_of_its_canvases():
    job = reach.P1._replace(batch=1)
    canvas = 3 * 416 * 416 * 4 * job.slots
    assert 3 * canvas < reach.measured_peak(job, reach.RIVAL, "cpu", 1) < 10 * canvas


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
    monkeypatch.setattr(command, "JOBS", reach.SMALL)
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
    assert {row["case"] for row in content["rows"]} == {"S", "growth: 2 to 4 objects", "1", "P1", "P3", "P4"}
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


def test_what_else_is_done_with_images_and_boxes_is_timed_beside_a_call(monkeypatch):
    torchvision()
    monkeypatch.setattr(beside, "RUNS", 2)
    taken = beside.times(cases.TINY, "cpu")
    assert {name.partition(" ")[0] for name in taken} >= {"images.clone()", "forward", "crop_patches", "torchvision's"}
    assert min(taken.values()) > 0
