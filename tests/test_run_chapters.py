"""tools/run_chapters.py on tiny notebooks: stable bytes, and what it refuses."""

import asyncio
import json
import time

import nbformat
import pytest
import zmq
import zmq.asyncio

from tools.run_chapters import keep_looking, main, tidy

LIVELY = """import sys, time
import ipywidgets as widgets
from tqdm import tqdm
from tqdm.auto import tqdm as tqdm_widget
print("one", flush=True); time.sleep(0.1); print("two", object())
for _ in tqdm(range(3)): time.sleep(0.01)
for _ in tqdm_widget(range(3)): time.sleep(0.01)
widgets.interact(lambda n: print(object()), n=(1, 3))
print({word for word in "the order of a set of strings".split()})"""
SLIDER = """slider = widgets.IntSlider(max=1)
stack = widgets.Stack([widgets.HTML("left"), widgets.HTML("right")])
widgets.jslink((slider, "value"), (stack, "selected_index"))
widgets.VBox([slider, stack])"""
FAILS = "import json\njson.loads('{')"


@pytest.fixture
def repo(tmp_path):
    """A function that writes chapter NN with the given code cells."""
    (tmp_path / "notebooks").mkdir()

    def write(*cells, number="01", tags=()):
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_markdown_cell("# Title")]
        notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook.cells[-1].metadata.tags = list(tags)
        path = tmp_path / "notebooks" / f"{number}_topic.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


def outputs(path, number):
    """The outputs of cell `number`, counted from 1."""
    return nbformat.read(path, as_version=4).cells[number - 1].outputs


def run(path, *arguments):
    return main(list(arguments), path.parents[1])


def test_two_runs_give_the_same_bytes(repo, capsys):
    path = repo(LIVELY, SLIDER, FAILS, tags=["raises-exception"])
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert run(path) == 0
    first = path.read_bytes()
    assert run(path) == 0
    assert path.read_bytes() == first
    assert capsys.readouterr().out.startswith("notebooks/01_topic.ipynb: ")
    assert run(path, "--check") == 0

    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ids
    assert notebook.cells[-1].metadata == {"tags": ["raises-exception"]}
    prints = [o for o in outputs(path, 2) if o.output_type == "stream"]
    assert {o.name for o in prints} == {"stdout"}
    assert prints[0].text == "one\ntwo <object object>\n"
    (error,) = outputs(path, 4)
    assert error.ename == "JSONDecodeError"
    assert str(path.parents[1]) not in first.decode()


def test_widget_state_is_kept(repo):
    path = repo(LIVELY, SLIDER)
    run(path)
    notebook = nbformat.read(path, as_version=4)
    (saved,) = notebook.metadata.widgets.values()
    view = outputs(path, 3)[0].data["application/vnd.jupyter.widget-view+json"]
    box = saved["state"][view["model_id"]]["state"]
    children = [child.removeprefix("IPY_MODEL_") for child in box["children"]]
    names = [saved["state"][child]["model_name"] for child in children]
    assert names == ["IntSliderModel", "StackModel"]
    kinds = {model["model_name"] for model in saved["state"].values()}
    assert "LinkModel" in kinds  # what makes the slider work without a kernel
    count = len(saved["state"])
    assert sorted(saved["state"]) == [f"{n:032x}" for n in range(1, count + 1)]


def test_time_stamps_and_editor_data_are_dropped(repo):
    path = repo("1 + 1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata.execution = {"iopub.status.busy": "2020-01-01T00:00"}
    notebook.cells[1].metadata.tags = ["hide-input"]
    notebook.metadata.jupytext = {"formats": "ipynb,py"}
    notebook.metadata.kernelspec = {"name": "mine", "display_name": "Mine"}
    nbformat.write(notebook, path)
    assert run(path, "--check") == 1
    assert run(path) == 0
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[1].metadata == {"tags": ["hide-input"]}
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert run(path, "--check") == 0


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("x = 1\nraise ValueError('no such preset')", "no such preset"),
        ("import os\nos._exit(1)", "ended its Python process"),
    ],
)
def test_failing_cell(repo, capsys, cell, message):
    path = repo("print('fine')", cell, "print('never')")
    before = path.read_bytes()
    assert run(path) == 1
    err = capsys.readouterr().err
    assert "error: notebooks/01_topic.ipynb, cell 3" in err
    assert message in err
    assert "\x1b" not in err  # a log file shows no colours
    assert path.read_bytes() == before


def test_a_reply_whose_signal_was_taken():
    """Sending on the socket of a reply, as an output widget does, may take it."""

    async def reply_was_seen():
        context = zmq.asyncio.Context()
        kernel = context.socket(zmq.DEALER, socket_class=zmq.Socket)
        socket = context.socket(zmq.DEALER)
        port = kernel.bind_to_random_port("tcp://127.0.0.1")
        socket.connect(f"tcp://127.0.0.1:{port}")
        reply = socket.poll(60_000)
        looking = asyncio.create_task(keep_looking(socket, 0.1))
        await asyncio.sleep(0.2)
        kernel.send(b"reply")
        time.sleep(0.2)  # it arrives while the loop does something else
        zmq.Socket.shadow(socket.underlying).send(b"from a widget")
        done, _ = await asyncio.wait([reply], timeout=10)
        looking.cancel()
        context.destroy(linger=0)
        return bool(done)

    assert asyncio.run(reply_was_seen())


def test_a_cell_that_hangs(repo, capsys, monkeypatch):
    monkeypatch.setattr("tools.run_chapters.CELL_SECONDS", 1)
    path = repo("import time\ntime.sleep(60)")
    before = path.read_bytes()
    assert run(path) == 1
    assert "cell 2 took more than 1 s" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_chapters_run_in_reading_order(repo, capsys):
    later = repo("open('made').read()", number="03")
    first = repo("open('made', 'w').write('x')", number="02")
    skipped = repo("1 / 0", number="01")
    assert main(["3", "02"], first.parents[1]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "notebooks/02_topic.ipynb",
        "notebooks/03_topic.ipynb",
    ]
    assert outputs(later, 2)[0].data["text/plain"] == "'x'"
    assert outputs(skipped, 2) == []


def test_unknown_chapter(repo, capsys):
    assert run(repo("1"), "07") == 1
    assert capsys.readouterr().err == "error: no chapter 07; there are 01\n"


@pytest.mark.parametrize(
    ("cell", "tags", "message"),
    [
        (
            "import sys\nprint('careful', file=sys.stderr)",
            [],
            "cell 2: stderr: careful",
        ),
        ("print('/home' + '/me/data.jsonl')", [], "cell 2: path of one machine"),
        ("1 / 0", ["raises-exception"], None),
    ],
)
def test_check_of_outputs(repo, capsys, cell, tags, message):
    path = repo(cell, tags=tags)
    assert run(path) == 0
    assert run(path, "--check") == (message is not None)
    assert (message or "") in capsys.readouterr().err


def test_check_of_a_failure_without_its_tag(repo, capsys):
    path = repo("1 / 0", tags=["raises-exception"])
    run(path)
    text = path.read_text(encoding="utf-8").replace("raises-exception", "other")
    path.write_text(text, encoding="utf-8")
    assert run(path, "--check") == 1
    assert "cell 2: failed with ZeroDivisionError" in capsys.readouterr().err


def test_check_of_a_notebook_that_was_not_run(repo, capsys):
    path = repo("1", "2")
    before = path.read_bytes()
    assert run(path, "--check") == 1
    err = capsys.readouterr().err
    assert "cell 2: not run, or not in order" in err
    assert "cell 3: not run, or not in order" in err
    assert path.read_bytes() == before


def test_tidy_text_of_outputs(tmp_path):
    """Addresses, this checkout's path, times and a bar's earlier states do not stay."""
    site = "\x1b[32m/somewhere/lib/python3.11/site-packages/torch/nn.py"
    bar = "  0%|  | 0/9 [00:00<?, ?it/s]\r100%|##| 9/9 [00:01<00:00, 8.0it/s]\n"
    cell = nbformat.v4.new_code_cell(execution_count=1)
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text=bar),
        nbformat.v4.new_output("stream", name="stdout", text="a <f at 0x7f12ab34cd>\n"),
        nbformat.v4.new_output("stream", name="stdout", text="o: loss 1.2; 3.4 s\r\n"),
        nbformat.v4.new_output("stream", name="stdout", text="1%\r2%\rdone\n"),
        nbformat.v4.new_output("stream", name="stderr", text="kept\n"),
        nbformat.v4.new_output(
            "display_data", {"text/plain": f"{tmp_path}/minimind/cli.py {site}"}
        ),
    ]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    first, second, third = tidy(notebook, tmp_path).cells[0].outputs
    assert first.text == "a <f>\no: loss 1.2\r\ndone\n"
    assert second.data["text/plain"] == (
        "minimind/cli.py \x1b[32msite-packages/torch/nn.py"  # the colour stays
    )
    assert (third.name, third.text) == ("stderr", "kept")
    once = json.dumps(notebook)
    assert json.dumps(tidy(nbformat.from_dict(json.loads(once)), tmp_path)) == once
