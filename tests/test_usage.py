"""What is said to a call that is nearly right: what it is, and what to write instead."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from command_line import FOLD, NET, Run, files
from PIL import Image

import bnfold
from bnfold.errors import ModelError, UsageError
from bnfold.net import Blobs
from bnfold.report.messages import usage_message

PAIR = "--map"

NEARLY_RIGHT = {
    "an output without -o": (
        ("fold", *NET, "o.onnx"),
        "o.onnx is one file too many: outputs are named with -o, as in '-o o.onnx'",
    ),
    "weights beside the models of a comparison": (
        ("diff", *NET, "o.onnx"),
        "o.onnx is one file too many: two models are compared, and a prototxt with its caffemodel is one of them: "
        "write net.prototxt:net.caffemodel",
    ),
    "an output without -o, beside one": ((*FOLD, "o.onnx"), "as in '-o o.onnx'"),
    "an output in the place of the weights": (
        ("fold", "net.prototxt", "o.onnx", "-o", "x.onnx"),
        "o.onnx is not a caffemodel: outputs are named with -o",
    ),
    "an output in front of the network": (
        ("fold", "out.prototxt", *NET),
        "out.prototxt stands in front of the network: outputs are named with -o",
    ),
    "a caffemodel behind the prototxt that is written": (
        (*FOLD, "a.caffemodel"),
        "a.caffemodel is one file too many: -o takes one name, beside which the weights are written, to out.caffemodel",
    ),
    "a caffemodel as a second output": (
        (*FOLD, "-o", "out.caffemodel"),
        "one of .onnx, .prototxt; write out.prototxt, beside which the caffemodel goes",
    ),
    "weights behind the ONNX model that is written": (
        ("export", *NET, "--output=o.onnx", "o.onnx.data"),
        "--output takes one name, and --external-data writes the weights to o.onnx.data",
    ),
    "outputs joined by a comma": (
        (*FOLD[:-1], "a.prototxt,b.onnx"),
        "-o a.prototxt,b.onnx: outputs are named one by one; write -o a.prototxt -o b.onnx",
    ),
    "outputs of a folder joined by a comma": (
        (*FOLD[:-1], "./new/a.prototxt,new/b.onnx"),
        "outputs are named one by one; write -o new/a.prototxt -o new/b.onnx",
    ),
    "an output and its weights joined": (
        (*FOLD[:-1], "a.prototxt:a.caffemodel"),
        "outputs are named one by one, and weights go beside their network; write -o a.prototxt\n",
    ),
    "an output and its data joined": (
        (*FOLD[:-1], "o.onnx,o.onnx.data"),
        "outputs are named one by one, and weights go beside their network; write -o o.onnx\n",
    ),
    "an ONNX model that is text by its name": ((*FOLD[:-1], "o.onnx.txt"), "; write o.onnx\n"),
    "a network and a stream of weights joined": (
        ("inspect", "net.prototxt:/dev/stdin"),
        "the prototxt and the caffemodel are two arguments here: net.prototxt /dev/stdin",
    ),
    "two models joined by a comma": (("fold", "a.onnx,b.onnx", "-o", "o.onnx"), "a.onnx,b.onnx: cannot be read"),
    "two prototxts joined by a colon": (("inspect", "a.prototxt:b.prototxt"), "a.prototxt:b.prototxt: cannot be read"),
    "an output that is text by another name": ((*FOLD[:-1], "out.prototxt.txt"), "; write out.prototxt\n"),
    "weights of an output": ((*FOLD[:-1], "o.onnx.data"), "; o.onnx with --external-data has its weights there"),
    "a network and its weights joined by a comma": (
        ("fold", "net.prototxt,net.caffemodel", "-o", "o.onnx"),
        "the prototxt and the caffemodel are two arguments here: net.prototxt net.caffemodel",
    ),
    "no output, and one in the place of the weights": (
        ("fold", "a.onnx", "b\n.onnx"),
        r"outputs are named with -o, as in '-o b\n.onnx'",
    ),
    "no output": (("export", *NET), "'-o' / '--output', as in 'bnfold export net.prototxt net.caffemodel -o net.onnx"),
    "two networks inspected": (
        ("inspect", *NET, *NET),
        "net.prototxt is one file too many: one network is inspected at a time, and 'bnfold diff' compares two",
    ),
    "two files behind one option": (
        (*FOLD, "--html", "a.html", "b.html"),
        "b.html is one argument too many: --html takes one value, and has a.html",
    ),
    "two names behind one option": (
        ("inspect", *NET, "--keep", "a", "b"),
        "b is one argument too many: --keep takes one value, and is repeated for the next: '--keep b'",
    ),
    "data behind two models": (
        ("diff", "a.onnx", "net.prototxt:net.caffemodel", "images"),
        "images is one argument too many: two models are compared, and data are named with --data",
    ),
    "two data sets behind one option": (
        ("diff", "a.prototxt", "net.prototxt:net.caffemodel", "--data", "a.npz", "b.npz"),
        "b.npz is one argument too many: --data takes one value, and has a.npz",
    ),
    "a third model": (
        ("diff", "a.prototxt", "net.prototxt:net.caffemodel", "b.onnx"),
        "a prototxt with its caffemodel is one of them: write NET.prototxt:WEIGHTS.caffemodel",
    ),
    "a blob that is none, where versions are made in place": (
        (*FOLD, "--keep", "xyz"),
        "the network has no blob of that name (there are 'res2a', 'res2a_branch2b', 'res2a_branch2a', ",
    ),
    "a version that is misspelt": ((*FOLD, "--keep", "res2a@res2"), "(did you mean 'res2a@res2a'?)"),
    "ends joined by a comma": (
        (*FOLD, "--until", "res2a,prob"),
        "the network has no blob of that name; several are given one by one, each behind its own --until",
    ),
    **{
        f"constants of ONNX for {args[0]}": ((*args, "--freeze-initializers"), sentence)
        for args, sentence in (
            (("export", *NET, "-o", "o.onnx"), "No such option '--freeze-initializers'"),
            (("convert", *NET, "-o", "out.prototxt"), "No such option '--freeze-initializers'"),
            (FOLD, "--freeze-initializers is for ONNX models, and net.prototxt is none"),
            (("diff", *NET[:1], *NET[:1]), "--freeze-initializers would be ignored: no model is ONNX"),
        )
    },
    "an ONNX model in the place of the weights, inspected": (
        ("inspect", "net.prototxt", "o.onnx"),
        "o.onnx is not a caffemodel: an ONNX model is inspected by itself",
    ),
    "options in front of the command": (
        ("-o", "o.onnx", "fold", *NET),
        "No such option '-o'; a command stands in front of its options ('bnfold --help'",
    ),
    "a report without its form": (
        ("diff", "a.onnx", "b.onnx", "--report", "r.html"),
        "No such option '--report'. Did you mean '--html' or '--json' or '--markdown'?",
    ),
    "another tool's word for the tolerance": (
        ("diff", "a.onnx", "b.onnx", "--atol", "1e-3"),
        "No such option '--atol'. Did you mean '--tolerance'?",
    ),
    "labels, which the data have": (("diff", "a.onnx", "b.onnx", "--labels", "l.txt"), "Did you mean '--data'?"),
    "a word for an option that the command lacks": (("inspect", "a.onnx", "--gpu"), "No such option '--gpu' ("),
    "the function's name": (("compare", *NET), "No such command 'compare'. Did you mean 'diff'?"),
    "two caffemodels": (("inspect", *NET, "more.caffemodel"), "joined by commas, as in a.caffemodel,b.caffemodel"),
    "a command that is misspelt": (("help", "fld"), "No such command 'fld'. Did you mean 'fold'?"),
    "two files for one report": (
        (*FOLD, "--json", "a.json", "--json=b.json"),
        "--json is given 2 times; give it once",
    ),
    "two data sets": (
        ("diff", "net.prototxt:net.caffemodel", "o.onnx", "--data", "a", "--data", "b", "--mean", "1", "--data", "c"),
        "--data is given 3 times; give it once",
    ),
    "something else": (("inspect", *NET, "x"), "x is one argument too many"),
    "the files swapped": (
        ("fold", "net.caffemodel", "net.prototxt", "-o", "o.onnx"),
        "the prototxt comes first: net.prototxt net.caffemodel",
    ),
    "one network compared": (
        ("diff", *NET),
        "these are the two files of one network: write net.prototxt:net.caffemodel, and add the second model",
    ),
    "no weights behind the colon": (
        ("diff", "net.prototxt:", "net.prototxt"),
        "the reference 'net.prototxt:' is neither an .onnx, nor a .prototxt with the .caffemodel of the same stem",
    ),
    "a report onto what is inspected": (
        ("inspect", "net.prototxt", "--json", "net.prototxt"),
        "net.prototxt: is an input of this run, so it cannot be written as well; give another name",
    ),
    "two options that exclude each other": (
        ("inspect", *NET, "--strict-fields", "--ignore-unknown-fields"),
        "--strict-fields stops at what --ignore-unknown-fields skips; give one of the two",
    ),
    "a network without its suffix": (
        ("inspect", "net"),
        "net: cannot be read: No such file or directory (there are 'net.caffemodel', 'net.prototxt')",
    ),
    "a network to compare without its suffix": (
        ("diff", "net", "net.prototxt"),
        "net: cannot be read: No such file or directory (there are 'net.caffemodel', 'net.prototxt')",
    ),
    "a folder to compare": (("diff", "net.prototxt", "."), ".: is a folder; give a file"),
    "standard input to compare": (("diff", "net.prototxt", "-"), "; standard input is called /dev/stdin"),
    "a file that is misspelt": (
        ("inspect", "nett.prototxt"),
        "nett.prototxt: cannot be read: No such file or directory (did you mean 'net.prototxt'?)",
    ),
    "data that is misspelt": (
        (*FOLD, "--data", "net.protoxt"),
        "the data 'net.protoxt' does not exist (did you mean 'net.prototxt'?)",
    ),
    "a network as data": ((*FOLD, "--data", "net.prototxt"), "the data 'net.prototxt' is a model by its suffix; give"),
    "one image": ((*FOLD, "--data", "A.jpg"), "'A.jpg' is one image: give the folder that it is in, or a list"),
    "a blob": ((*FOLD, "--keep", "res3"), "--keep res3: the network has no blob of that name (did you mean 'res2a'?)"),
    "a layer": (
        (*FOLD, "--exclude", "bn2_branch1"),
        "--exclude bn2_branch1: the network has no layer of that name (did you mean 'bn2a_branch1'?)",
    ),
    "layers joined by a comma": (
        (*FOLD, "--exclude", "bn2a_branch1,bn2a_branch2a"),
        "the network has no layer of that name; several are given one by one, each behind its own --exclude",
    ),
    "a shape of an input in other case": (
        (*FOLD, "--input-shape", "Data=1,3,16,16"),
        "--input-shape Data: the network has no input of that name (did you mean 'data'?)",
    ),
    "a pair of blobs": (
        ("diff", "net.prototxt", "net.prototxt", PAIR, "res2=res2a"),
        "the reference has no blob 'res2' (did you mean 'res2a'?)",
    ),
    "an end": (
        (*FOLD, "--until", "res2"),
        "--until res2: the network has no blob of that name (did you mean 'res2a'?)",
    ),
    "ONNX's options": ((*FOLD, "--opset", "12"), "--opset would be ignored: no .onnx is written"),
    "Caffe's options of ONNX": (
        ("fold", "a.onnx", "-o", "o.onnx", "--opset", "17", "--hash-sources"),
        "--opset and --hash-sources would be ignored: a.onnx is ONNX already, and stays what it is",
    ),
    "Caffe's options": (
        ("fold", *NET, "-o", "o.onnx", "--strip", "--dialect", "keep"),
        "--strip and --dialect would be ignored: no .prototxt is written",
    ),
    "a gate of no comparison": (
        (*FOLD, "--no-verify", "--tolerance", "0.1", "--seed", "3"),
        "--tolerance and --seed would be ignored: --no-verify compares nothing",
    ),
    "a part of no data": (
        (*FOLD, "--no-verify", "--limit", "3"),
        "--limit would be ignored: --no-verify compares nothing",
    ),
    "a state of an ONNX model": (
        ("diff", "a.onnx", "b.onnx", "--stage", "deploy", "--level", "1"),
        "--stage and --level would be ignored: the models are ONNX",
    ),
    "outputs that are bisected": (
        ("diff", "a.onnx", "b.onnx", "--bisect", "--outputs-only"),
        "--outputs-only would be ignored: --bisect compares the outputs, and further blobs only where they differ",
    ),
    "a name with a dash": (
        ("inspect", "-n.onnx"),
        "No such option '-n'; write the file '-n.onnx' as './-n.onnx', since options begin with a dash",
    ),
    "an option behind the dashes": (
        ("fold", "--", "-n.onnx", "-o", "o.onnx"),
        "-o stands after '--', which only files may follow; put options before it",
    ),
    "an empty argument": (
        ("fold", "", "-o", "o.onnx"),
        "the argument after the command is empty: is a variable",
    ),
    "an empty option": (
        (*FOLD, "--data", ""),
        "the argument after --data is empty: is a variable of the shell not set?",
    ),
    "a value that ends as an empty one": ((*FOLD, "--map=a="), "No such option '--map'"),
    "a pair that is half empty": (
        ("diff", *NET[:1], *NET[:1], "--map=a="),
        "Invalid value for '--map': expected A=B like conv1=conv1_relu, got 'a='",
    ),
    **{
        f"a cluster of {cluster}": (
            ("diff", *NET[:1], *NET[:1], f"--cluster={cluster}"),
            f"--cluster {cluster}: expected a number of local workers, 1 or more, or the address of a scheduler like",
        )
        for cluster in ("0", "-1", "nan", "1.5", "many")
    },
    "a tolerance that is no number": ((*FOLD, "--tolerance", "nan"), "--tolerance: the tolerance is nan; it must be"),
    "a scale that is no number": ((*FOLD, "--data", "A.jpg", "--scale=nan"), "be finite, and the scale is nan"),
    "a mean that is no number": ((*FOLD, "--data", "A.jpg", "--mean=nan"), "be finite, and the mean is not"),
    "a value that is empty": ((*FOLD, "--html="), "--html= is empty: is a variable of the shell not set?"),
    "a folder as an output": (("fold", *NET, "-o", "./"), ".: is a folder; give the name of a file"),
    "a caffemodel as the output": (
        ("fold", *NET, "-o", "new/out.caffemodel"),
        "must be one of .onnx, .prototxt; write new/out.prototxt",
    ),
    "an option without its value": ((*FOLD, "--data"), "requires an argument ('bnfold fold --help' lists"),
    "a value for a flag": ((*FOLD, "--strip=1"), "does not take a value ('bnfold fold --help' lists"),
    "no command": (("net.prototxt", "net.caffemodel"), "as in 'bnfold inspect net.prototxt'"),
    "a caffemodel twice": (
        ("inspect", "net.prototxt", "net.caffemodel,./net.caffemodel"),
        "a caffemodel is given twice: net.caffemodel, net.caffemodel; give each once",
    ),
    "an address": (
        ("fold", "https://a.b/c.onnx", "-o", "o.onnx"),
        "'https://a.b/c.onnx' is an address on the network; fetch it first",
    ),
    "an address of a file": (
        ("fold", "file:///a/c.onnx", "-o", "o.onnx"),
        "'file:///a/c.onnx' is an address of a file; give its path alone, '/a/c.onnx'",
    ),
    "an address of data": (
        ("diff", "A.onnx", "A.onnx", "--data", "s3://b/c"),
        "'s3://b/c' is an address on the network; fetch it first",
    ),
    "a web page": (("fold", "page.prototxt", "-o", "o.onnx"), "page.prototxt: is a web page and not a prototxt"),
}


@pytest.mark.parametrize("what", NEARLY_RIGHT)
def test_a_call_that_is_nearly_right_is_told_what_to_write(run: Run, what: str) -> None:
    args, sentence = NEARLY_RIGHT[what]
    Path("page.prototxt").write_text("<!DOCTYPE html>\n<html></html>")
    Image.new("RGB", (4, 4)).save("A.jpg")
    Path("-n.onnx").touch()
    before = files()
    outcome = run(*args)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert files() == before


@pytest.mark.parametrize(
    "args",
    [
        ("inspect", "a\nc.prototxt"),
        ("fold", "a\nb.prototxt", "-o", "o.onnx"),
        ("fold", "a\nb.prototxt", *NET[1:], "-o", "a\nb.txt"),
        ("diff", *NET[:1], "a\nb"),
        ("diff", *NET[:1], *NET[:1], "--data", "a\nb"),
        ("fold", *NET, "-o", "o.onnx", "--html", "/dev/full", "-o", "a\nb.onnx"),
    ],
)
def test_a_line_end_in_a_name_ends_no_line(run: Run, args: tuple[str, ...]) -> None:
    copy("net.prototxt", "a\nb.prototxt")
    outcome = run(*args)
    assert outcome.code == 2
    assert "a\\nb" in outcome.err
    assert outcome.err.count("\n") == 1


def test_weights_of_another_network_are_listed_a_line_for_each_layer(run: Run) -> None:
    text = Path("net.prototxt").read_text().replace("num_output: ", "num_output: 1")
    Path("net.prototxt").write_text(text.replace('"bn2a_branch1"', '"bn\\n2a"'))
    lines = run(*FOLD).err.splitlines()
    assert len(lines) > 3
    assert all(line.startswith("  layer '") for line in lines[1:])
    assert sum("'bn\\n2a'" in line for line in lines) == 1


def test_an_output_need_not_be_readable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out.prototxt").touch()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK and access(path, mode))
    assert run(*FOLD, "--no-verify").code == 0


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("export", "net.onnx", "-o", "o.onnx"), "net.onnx: is ONNX already; 'bnfold fold'"),
        (("convert", "net.onnx", "-o", "o.prototxt"), "net.onnx: is an ONNX model, and Caffe has no layers"),
        (("fold", "net.onnx", "-o", "o.prototxt"), "net.onnx is an ONNX model, and Caffe has no layers"),
        (("inspect", "net.onnx", "--stage", "x"), "--stage: these options are for Caffe files"),
        (("fold", "net.onnx", "net.caffemodel", "-o", "o.onnx"), "has its weights itself"),
    ],
)
def test_an_onnx_model_is_told_which_commands_take_it(run: Run, args: tuple[str, ...], sentence: str) -> None:
    assert run("export", *NET, "-o", "net.onnx").code == 0
    outcome = run(*args)
    assert outcome.code == 2
    assert sentence in outcome.err


def test_blobs_are_kept_by_pattern_as_layers_are_excluded_by_one(run: Run) -> None:
    import bnfold

    assert run(*FOLD, "--keep", "res2a_*").code == 0
    net, folded = bnfold.load(*NET), bnfold.load("out.prototxt", "out.caffemodel")
    wanted = {top for layer in net.layers for top in layer.tops if top.startswith("res2a_")} - set(net.public)
    assert len(wanted) > 1
    assert wanted <= {top for layer in folded.layers for top in layer.tops}


@pytest.mark.usefixtures("run")
def test_a_pattern_keeps_a_version_made_in_place_only_by_its_at_sign() -> None:
    import bnfold

    net = bnfold.load(*NET)
    version = "res2a_branch2a@res2a_branch2a"
    assert version in net.public

    def kept(pattern: str) -> bool:
        return bool(bnfold.fold(net, keep=pattern).report.kept)

    assert [*map(kept, ("res2a_branch2a*", version, "res2a_branch2a@*"))] == [False, True, True]


def test_a_default_that_is_not_written_is_no_option_that_would_be_ignored(run: Run) -> None:
    assert run(*FOLD, "--no-verify").code == 0
    assert run("export", *NET, "-o", "out.onnx").code == 0


def test_a_guessed_shape_that_does_not_fit_is_called_a_guess(run: Run) -> None:
    Path("odd.prototxt").write_text("""
        layer { name: "d" type: "Data" top: "data" data_param { source: "x" } }
        layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param { shape { dim: 0 dim: 7 dim: 11 } } }
    """)
    outcome = run("inspect", "odd.prototxt")
    assert outcome.code == 2
    assert "input 'data' is taken as 1x3x224x224: nothing says its shape; --input-shape sets another" in outcome.err


def test_a_stage_and_a_level_are_given_at_the_command_line(run: Run) -> None:
    Path("net.prototxt").write_text("""
        input: "data" input_shape { dim: 1 dim: 2 }
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" include { stage: "deploy" } }
        layer { name: "b" type: "ReLU" bottom: "data" top: "b" include { min_level: 2 } }
        layer { name: "c" type: "ReLU" bottom: "data" top: "c" }
    """)
    outcome = run("convert", "net.prototxt", "-o", "none.prototxt")
    assert "'a' (ReLU) is left out, and --stage deploy takes it in" in outcome.out
    assert "'b' (ReLU) is left out, and --level 2 takes it in" in outcome.out
    assert run("convert", "net.prototxt", "-o", "all.prototxt", "--stage", "deploy", "--level", "3").code == 0
    text = Path("all.prototxt").read_text()
    assert 'name: "a"' in text
    assert 'name: "b"' in text
    assert "include" not in text


COMMANDS = {"inspect": (), "fold": ("-o", "o.prototxt", "--no-verify"), "export": ("-o", "o.onnx")}
MISFITS = {
    "a kernel": 'layer { name: "x" type: "Convolution" bottom: "data" top: "x" '
    "convolution_param { num_output: 4 kernel_size: 13 } }",
    "a pooling": 'layer { name: "x" type: "Pooling" bottom: "data" top: "x" pooling_param { kernel_size: 99 } }',
    "parts": 'layer { name: "x" type: "Slice" bottom: "data" top: "x" top: "y" }',
    "what is summed": 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 } } '
    'layer { name: "x" type: "Eltwise" bottom: "data" bottom: "p" top: "x" }',
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_said_with_file_and_layer(run: Run, command: str, misfit: str) -> None:
    Path("odd.prototxt").write_text('input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n' + MISFITS[misfit])
    outcome = run(command, "odd.prototxt", *COMMANDS[command])
    assert outcome.code == 2
    assert outcome.err.startswith("bnfold: odd.prototxt: layer 'x' (")
    assert outcome.err.count("odd.prototxt") == 1
    if misfit in ("a kernel", "a pooling"):
        assert outcome.err.strip().endswith("; --input-shape sets a larger input")


def test_statistics_that_make_no_sense_are_said_with_file_and_layer(tmp_path: Path) -> None:
    path = tmp_path / "odd.prototxt"
    path.write_text(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } layer { name: "bn" type: "BatchNorm" '
        'bottom: "data" top: "bn" }'
    )
    net = bnfold.load(path)
    statistics = [np.zeros(3, np.float32), np.full(3, -1, np.float32), np.ones(1, np.float32)]
    net["bn"].blobs = Blobs(statistics)
    with pytest.raises(ModelError, match=rf"^{path}: layer 'bn' \(BatchNorm\): variance \+ eps of channel 0 is "):
        bnfold.fold(net)


def test_what_is_read_may_have_its_suffix_in_capitals(run: Run) -> None:
    assert run(*FOLD, "-o", "out.onnx").code == 0
    for file in ("net.prototxt", "net.caffemodel", "out.onnx"):
        path = Path(file)
        path.rename(f"{path.stem}{path.suffix.upper()}")
    outcome = run("diff", "net.PROTOTXT", "out.ONNX", "--outputs-only")
    assert (outcome.code, outcome.err) == (0, "")
    outcome = run("diff", "net.PROTOTXT:net.CAFFEMODEL", "net.PROTOTXT")
    assert (outcome.code, outcome.err) == (0, "")
    assert run("inspect", "out.ONNX").code == 0
    assert run("fold", "out.ONNX", "-o", "again.onnx").code == 0
    outcome = run("fold", "net.CAFFEMODEL", "net.PROTOTXT", "-o", "again.onnx")
    assert "the prototxt comes first: net.PROTOTXT net.CAFFEMODEL" in outcome.err
    assert "write net.PROTOTXT:net.CAFFEMODEL, and add" in run("diff", "net.PROTOTXT", "net.CAFFEMODEL").err
    outcome = run("fold", "net.PROTOTXT", "net.CAFFEMODEL", "OTHER.CAFFEMODEL", "-o", "again.onnx")
    assert "several caffemodels are joined by commas" in outcome.err
    with pytest.raises(UsageError, match=r"^again\.ONNX: what is written there is a prototxt"):
        bnfold.save_caffe(bnfold.load("net.PROTOTXT", "net.CAFFEMODEL"), "again.ONNX")
    outcome = run("fold", "out.ONNX", "-o", "new.ONNX")
    assert outcome.err.strip().endswith(
        "new.ONNX: the suffix chooses the format, and must be one of .onnx, .prototxt; write new.onnx"
    )


def test_the_pair_of_diff_is_two_arguments_elsewhere(run: Run) -> None:
    said = run("inspect", "net.prototxt:net.caffemodel").err
    assert said == "bnfold: the prototxt and the caffemodel are two arguments here: net.prototxt net.caffemodel\n"


@pytest.mark.parametrize("called", ["bnfold", "python -m bnfold"])
def test_an_option_in_front_of_the_command_is_told_so_by_either_name_of_the_program(called: str) -> None:
    said = usage_message("No such option '-o'.", called, ["-o", "o.onnx", "fold"], {"fold", "diff"})
    assert said.startswith("No such option '-o'; a command stands in front of its options")
    behind = usage_message("No such option '--nix'.", f"{called} fold", ["fold", "--nix"], {"fold", "diff"})
    assert "a command stands" not in behind
