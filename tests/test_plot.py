"""Loss curves: the mean that is drawn, the picture, the line of text."""

import math

import pytest

from minimind.cli import main
from minimind.train import plot
from minimind.train.log import Log
from minimind.train.plot import BARS, LivePlot, draw, smooth, sparkline


@pytest.fixture
def runs(tmp_path):
    for name, base in (("first", 2.0), ("second", 3.0)):
        log = Log(tmp_path / name, 0)
        for step in range(1, 41):
            held_out = {"validation_loss": base + 0.1} if step % 20 == 0 else {}
            log.write(step=step, loss=base + 1 / step, **held_out)
    return [tmp_path / "first", tmp_path / "second"]


def test_the_mean_forgets():
    assert smooth([7], [4.0]) == [4.0]
    assert smooth([1, 2, 5], [4.0, 4.0, 4.0]) == pytest.approx([4.0] * 3)
    ones = smooth(range(70), [0.0] * 50 + [1.0] * 20, keep=0.9)[50:]
    assert ones == pytest.approx([1 - 0.9**n for n in range(1, 21)], abs=0.01)


def test_the_mean_of_every_tenth_step():
    """What was ten steps ago counts as if the steps between had been logged."""
    means = smooth([10, 20, 30], [1.0, 0.0, 0.0], keep=0.9)
    weight = 0.9**10
    assert means == pytest.approx(
        [1.0, weight / (1 + weight), weight**2 / (1 + weight + weight**2)]
    )


def test_a_curve_as_text():
    assert sparkline([0.0, 1.0]) == BARS[0] + BARS[-1]
    assert sparkline([5.0] * 9) == BARS[0] * 9
    long = sparkline([math.cos(n / 500 * math.pi) for n in range(501)])
    assert len(long) <= 60 and (long[0], long[-1]) == (BARS[-1], BARS[0])


def test_runs_over_each_other(runs):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    draw(plot.logs_of(runs), axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        str(run) for run in runs
    ]
    raw, mean, dots = axes.lines[3:]
    assert list(raw.get_ydata()) == [3.0 + 1 / step for step in range(1, 41)]
    assert list(dots.get_xdata()) == [20, 40] and list(dots.get_ydata()) == [3.1] * 2
    assert len({line.get_color() for line in axes.lines[:3]}) == 1
    assert raw.get_color() != axes.lines[0].get_color()
    pyplot.close(figure)


def test_the_command(runs, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["plot", *map(str, runs)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("step 40, loss ") == 2 and "held out 2.100" in printed
    assert BARS[0] in printed and BARS[-1] in printed
    picture = tmp_path / "loss.png"
    assert main(["plot", *map(str, runs), "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_directory_without_a_log(tmp_path, capsys):
    assert main(["plot", str(tmp_path)]) == 2
    assert f"error: {tmp_path}: no log.jsonl" in capsys.readouterr().err


def test_live_in_a_notebook(monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []

    class Handle:
        def update(self, figure):
            drawn.append(len(figure.axes[0].lines[0].get_xdata()))

    monkeypatch.setattr("IPython.display.display", lambda *a, **k: Handle())
    live = LivePlot({"before": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]})
    for step in range(1, 30):
        live.write({"step": step, "loss": 1 / step})
    live.close()
    assert len(drawn) < 10 and drawn[-1] == 29
    names = [text.get_text() for text in live.axes.get_legend().get_texts()]
    assert names == ["this run", "before"]
