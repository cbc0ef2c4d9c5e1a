"""Partners by name: what an in-place name means depends on what comes after it."""

import pytest
from nets import net

from bnfold.compare.pairing import further_outputs, later_writers, named_as, pair
from bnfold.errors import UsageError


def test_equal_names_are_partners_and_the_rest_stays_alone() -> None:
    assert pair(["a", "b", "c"], ["a", "c", "d"], {}, folded=False) == {"a": "a", "c": "c"}


def test_names_that_mislead_give_way_to_what_is_known_and_to_the_user() -> None:
    names, misleading = (["c@conv", "c", "d"], ["c", "r"]), {"c@conv": "c", "c": "r"}
    assert pair(*names, {}, folded=False, misleading=misleading) == misleading
    assert pair(*names, {"d": "r"}, folded=False, misleading=misleading) == {"c@conv": "c", "d": "r"}
    assert pair(*names, {"c": "c"}, folded=False, misleading=misleading) == {"c": "c"}
    assert pair(["a", "b"], ["a", "b"], {}, folded=False, misleading={"a": None}) == {"b": "b"}


def test_an_in_place_version_is_no_partner_of_the_same_name_in_a_folded_file() -> None:
    original = ["c@conv", "c@bn", "c", "prob"]
    folded = ["c@conv", "c", "prob"]  # here c@conv is what c@bn was there
    assert pair(original, folded, {}, folded=False) == {"c": "c", "prob": "prob"}


def test_in_place_versions_of_equal_files_are_partners() -> None:
    names = ["c@conv", "c@bn", "c"]
    assert pair(names, names, {}, folded=False) == {name: name for name in names}


def test_a_net_folded_in_memory_keeps_its_versions() -> None:
    assert pair(["c@conv", "c@bn", "c"], ["c@bn", "c"], {}, folded=True) == {"c@bn": "c@bn", "c": "c"}
    assert pair(["c@conv", "c@bn", "c"], ["c@bn", "c"], {}, folded=False) == {"c@bn": "c@bn", "c": "c"}


def test_the_users_pairs_go_first_and_use_up_their_partner() -> None:
    assert pair(["a", "b"], ["b", "c"], {"a": "b"}, folded=False) == {"a": "b"}


@pytest.mark.parametrize(
    ("candidate", "pairs", "said"),
    [
        (["z", "y"], {"b": "b", "y": "z"}, ["'y', and the reference no such output, so not all of them are compared"]),
        (["y", "b"], {"b": "b", "y": "y"}, ["'b', and the reference no such output"]),
        (["y"], {"b": "b", "y": "y"}, []),
        (
            ["z"],
            {"b": "b"},
            ["'z', and the reference no such output, so not all of them are compared; --map y=z compares them"],
        ),
        (["z", "w"], {}, ["'z', 'w', and the reference no such output, so not all of them are compared"]),
    ],
)
def test_an_output_of_the_candidate_alone_is_said(candidate: list[str], pairs: dict[str, str], said: list[str]) -> None:
    several = "outputs" if len(candidate) > 1 and "y" not in candidate else "output"
    assert list(further_outputs(["y"], candidate, pairs)) == [f"the candidate has {several} {one}" for one in said]


def test_a_pair_of_unknown_blobs_is_refused_with_all_names() -> None:
    with pytest.raises(
        UsageError, match=r"the reference has no blob 'x' \(there is 'a'\); the candidate has no blob 'y' "
    ):
        pair(["a"], ["a"], {"x": "y"}, folded=False)


def test_a_name_with_an_at_sign_of_its_own_is_just_a_name() -> None:
    assert later_writers(["mail@home", "other"], {}) == {"mail@home": 0, "other": 0}


@pytest.mark.parametrize(
    ("name", "tops"), [("split", 'top: "b"'), ("other", 'top: "b" top: "c"'), ("split", 'top: "b" top: "c"')]
)
def test_a_net_that_was_read_back_takes_the_names_of_one_with_the_same_layers_only(name: str, tops: str) -> None:
    text = 'input: "data" input_shape { dim: 1 dim: 3 } layer { name: "%s" type: "Split" bottom: "data" %s }'
    written, read = net(text % ("split", 'top: "x" top: "y"')), net(text % (name, tops))
    alike = (name, tops) == ("split", 'top: "b" top: "c"')
    named = named_as(read, written)
    assert list(named.layers[-1].tops) == (["x", "y"] if alike else list(read.layers[-1].tops))
    assert (named is read) == (not alike)
