"""What the commands of `bnfold.cli` share: words read as values, options in groups, two helps, and completion."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bnfold.errors import UsageError
from bnfold.options import ELSEWHERE
from bnfold.report.messages import ValueInFront, extra_argument_message, missing_message

if TYPE_CHECKING:
    Option = click.ParamType[Any]
else:
    Option = click.ParamType  # only newer clicks let it be subscripted

F = TypeVar("F", bound=Callable[..., Any])
Value = TypeVar("Value")

# Options that mean something only beside others.
FROM_CAFFE = ("opset", "dynamic_batch", "allow_custom_ops", "hash_sources")
FOR_ONNX = (*FROM_CAFFE, "external_data")
FOR_CAFFE = ("strip", "dialect")
COMPARING = (
    "tolerance", "seed", "exact", "min_agreement", "max_top1_drop", "provider", "reference_provider", "tf32", "memory",
    "sample_limit", "sample_seed",
)  # fmt: skip
PREPARING = ("mean", "scale", "swap_channels", "resize", "crop")
PROVING = (*COMPARING, *PREPARING, "data", "keep_failed", "outputs_only")


MEANT: Mapping[str, Sequence[str]] = {
    **{f"--{word}": (f"--{meant}",) for word, meant in ELSEWHERE.items()},
    **dict.fromkeys(("--dataset", "--images", "--inputs", "--labels", "--samples"), ("--data",)),
    **dict.fromkeys(("--force", "--overwrite"), ("--in-place",)),
    **dict.fromkeys(("--ignore", "--skip"), ("--exclude",)),
    "--report": ("--html", "--json", "--markdown"),
}
"""What is called otherwise elsewhere -> options that are meant by it."""


class FilePath(click.Path):
    """A path, of which reading and writing say themselves what is wrong with it; no address on the network."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path as click has it."""
        from bnfold.io.files import require_local  # not for those who ask for help

        require_local(os.fsdecode(value))
        return super().convert(value, param, ctx)


FILES = FilePath(readable=False)  # as it was typed: one path or several, or a word that is none

OTHER = "Other"
GROUPS = ("Output", "Reading", "Folding", "ONNX", "Proof", "Data", "Report", OTHER)
"""The headings under which help lists options."""


class Word(Option):
    """An option's value that a function reads from its text; a ValueError says that it cannot; `like` are examples."""

    def __init__(self, name: str, read: Callable[[str], Any], like: str) -> None:
        self.name, self.read, self.like = name, read, like

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the text means."""
        try:
            return self.read(str(value))
        except ValueError:
            self.fail(f"expected {self.name} like {self.like}, got '{value}'", param, ctx)


def parse_sizes(text: str) -> tuple[int, ...]:
    """`1,3,224,224` or `1x3x224x224`. Raises ValueError for anything else."""
    sizes = tuple(int(size) for size in text.replace("x", ",").split(","))
    if min(sizes) < 1:
        raise ValueError
    return sizes


def parse_bytes(text: str) -> int:
    """`500M`, `500MB`, `4GiB` or a plain number, of a megabyte at least. Raises ValueError for anything else."""
    number = text.rstrip("BIKMGTbikmgt")
    unit = text[len(number) :].upper().removesuffix("B").removesuffix("I")
    size = float(number) * 2.0 ** (10 * ["", "K", "M", "G", "T"].index(unit))
    if not 1 << 20 <= size < 1 << 63:
        raise ValueError
    return int(size)


def require_words(words: Sequence[str]) -> None:
    """Stop at an empty argument, which would be taken for the folder that one is in. Raises UsageError."""
    for before, word in zip(("the command", *words), words, strict=False):
        if not word:
            raise UsageError(f"the argument after {before} is empty: is a variable of the shell not set?")
        if word.startswith("--") and word.find("=") == len(word) - 1:
            raise UsageError(f"{word} is empty: is a variable of the shell not set?")


def parse_plane(text: str) -> tuple[int, int]:
    """Height and width, or one number for both. Raises ValueError for anything else."""
    height, width = (parse_sizes(text) * 2)[:2] if text.isdigit() else parse_sizes(text)
    return height, width


def parse_pair(read: Callable[[str], Value], text: str) -> tuple[str, Value]:
    """`NAME=VALUE`, whose value `read` reads. Raises ValueError for anything else."""
    name, _, rest = text.rpartition("=")
    if not name or not rest:
        raise ValueError
    return name, read(rest)


def by_name(option: str, pairs: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    """The values of an option NAME=VALUE, which says one thing of each name. Raises UsageError where it says two."""
    found = dict(pairs)
    if twice := [name for name, value in pairs if found[name] != value]:
        raise UsageError(f"{option}: '{twice[0]}' is given two values")
    return found


def options(*decorators: Callable[[F], F], group: str = OTHER) -> Callable[[F], F]:
    """Several options as one decorator; `group` is their heading in help."""

    def decorate(command: F) -> F:
        before = len(getattr(command, "__click_params__", ()))
        decorated = reduce(lambda inner, option: option(inner), reversed(decorators), command)
        for param in getattr(decorated, "__click_params__", ())[before:]:
            # Blocks of options are parts of larger ones, and the innermost knows best.
            if not hasattr(param, "group"):
                param.group = group
        return decorated

    return decorate


WIDE = 60  # columns that have room for what an option does beside its name


class HelpContext(click.Context):
    """A context whose help fits a narrow terminal; click's own is never narrower than 50 columns."""

    def make_formatter(self) -> click.HelpFormatter:
        """What writes help."""
        from shutil import get_terminal_size  # a run needs none of its archives

        formatter = super().make_formatter()
        formatter.width = min(formatter.width, max(get_terminal_size().columns - 2, 20))
        return formatter


def _write_table(formatter: click.HelpFormatter, rows: Sequence[tuple[str, str]]) -> None:
    """Options and what they do, which stands below their names where it is narrow."""
    formatter.write_dl(rows, **({} if formatter.width >= WIDE else {"col_max": 4}))


class Command(click.Command):
    """A command whose `--help` fits on a screen, and whose `bnfold help COMMAND` says all.

    `--help` lists the options that are in `EVERYDAY`, grouped, a line each, and names the others.

    Args:
        example: arguments that can follow `bnfold`.
        one: when the exit code is 1, for a command that ends so.
    """

    context_class = HelpContext

    def __init__(self, name: str | None, *, example: str = "", one: str = "", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._example = f"bnfold {example}"
        codes = {"0": "done", "1": one, "2": "wrong usage, or a file that cannot be read or written"}
        self._codes = [(code, means) for code, means in codes.items() if means]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What `--help` prints."""
        from textwrap import fill  # which loads `re`; a run needs neither

        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        groups = self._groups(ctx)
        del groups[OTHER]
        formatter.write("\n" * bool(groups))
        for name, group in groups.items():
            usual = [(record[0], param.help or "") for param, record in group if EVERYDAY.intersection(param.opts)]
            others = [(param.secondary_opts or param.opts)[-1] for param, _ in group if param.opts[0] not in EVERYDAY]
            formatter.write(f"{name}:\n")
            if usual:
                formatter.indent()
                _write_table(formatter, usual)
                formatter.dedent()
            if others:
                names = " ".join(["also"] * bool(usual) + others)
                formatter.write(
                    fill(names, formatter.width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
                )
                formatter.write("\n")
        formatter.write(f"\nExample: {self._example}\n")
        formatter.write_text(f"'bnfold help {self.name}' explains every option.")

    def full_help(self, ctx: click.Context) -> str:
        """Every option with its explanation, and the exit codes."""
        formatter = ctx.make_formatter()
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        for name, group in self._groups(ctx).items():
            with formatter.section(name):
                _write_table(formatter, [record for _, record in group])
        with formatter.section("Example"):
            formatter.write_text(self._example)
        with formatter.section("Exit codes"):
            formatter.write_dl(self._codes)
        return formatter.getvalue().rstrip("\n")

    def _groups(self, ctx: click.Context) -> dict[str, list[tuple[click.Option, tuple[str, str]]]]:
        """Heading -> the options below it with their names and explanations; arguments are in the usage line."""
        groups: dict[str, list[tuple[click.Option, tuple[str, str]]]] = {name: [] for name in GROUPS}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                groups[getattr(param, "group", OTHER)].append((param, record))
        return {name: group for name, group in groups.items() if group}

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Options, else files: of NET.prototxt:WEIGHTS bash makes words that are more than there are arguments."""
        return super().shell_complete(ctx, incomplete) or FILES.shell_complete(ctx, self.params[0], incomplete)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click has it, but raises UsageError for an option for one file with two, of which click takes the last."""
        given = list(args)
        require_words(() if ctx.resilient_parsing else given)
        try:
            rest = super().parse_args(ctx, args)
            said = [one for one in self.make_parser(ctx).parse_args(given)[2] if isinstance(one.type, click.Path)]
            for param in said:
                if not param.multiple and said.count(param) > 1 and not ctx.resilient_parsing:
                    raise UsageError(f"{param.opts[0]} is given {said.count(param)} times; give it once")
            return rest
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out where a value is missing, or is one too many
            if isinstance(error, click.NoSuchOption):
                own = {name for param in self.params for name in param.opts}
                if meant := [f"'{name}'" for name in MEANT.get(error.option_name, ()) if name in own]:
                    sentence = f"No such option '{error.option_name}'. Did you mean {' or '.join(meant)}?"
                    raise click.UsageError(sentence, ctx) from None
            places, extra = self._arguments(ctx, given)
            if extra:
                in_front = self._value_in_front(given, extra[0])
                raise UsageError(extra_argument_message(str(self.name), places, extra, given, in_front)) from None
            if isinstance(error, click.MissingParameter):
                raise click.UsageError(missing_message(error.format_message(), places, self._example), ctx) from None
            raise

    def _arguments(self, ctx: click.Context, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """The words of a command line that have a place among the arguments, and those behind them."""
        with suppress(click.UsageError):
            values, extra, _ = self.make_parser(ctx).parse_args([*words])
            names = [param.name for param in self.params if isinstance(param, click.Argument)]
            return [values[name] for name in names if isinstance(values.get(name), str)], extra
        return [], []

    def _value_in_front(self, words: Sequence[str], word: str) -> ValueInFront | None:
        """The option whose value stands in front of the last such word, if there is one."""
        *_, before, value = "", "", *words[: len(words) - 1 - words[::-1].index(word)]
        name, joined, rest = value.partition("=")
        for param in self.params:
            if isinstance(param, click.Option) and not param.is_flag:
                if joined and name in param.opts:
                    return ValueInFront(name, rest, param.multiple)
                if before in param.opts:
                    return ValueInFront(before, value, param.multiple)
        return None


def complete_in_fish() -> None:
    """Have fish show whole descriptions, of which click's script drops what stands behind a comma."""
    from click.shell_completion import FishComplete, add_completion_class  # a run that completes nothing needs none

    class WholeDescriptions(FishComplete):
        source_template = FishComplete.source_template.replace('string split ","', 'string split -m 1 ","')

    add_completion_class(WholeDescriptions)


EVERYDAY = frozenset({
    "-o", "--in-place", "--input-shape", "--batch", "--until", "--keep", "--exclude", "--assume-global-stats",
    "--opset", "--dynamic-batch", "--no-verify", "--outputs-only", "--tolerance", "--memory", "--map", "--bisect",
    "--data", "--limit", "--mean", "--scale", "--resize", "--crop", "--json", "--html", "--markdown", "--strict",
    "-v", "-q",
})  # fmt: skip
"""The options that `--help` explains."""
