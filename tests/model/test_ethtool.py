"""The ethtool language: offloads as typed values, other settings as words, nothing for a shell."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import ethtool
from model.ethtool import Ethtool
from model.options import OptionError


def offloads(**states: bool) -> Ethtool:
    return Ethtool(offloads=tuple(sorted(states.items())))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], Ethtool()),
        (["--offload rx off"], offloads(rx=False)),
        (["-K tx off sg on"], offloads(tx=False, sg=True)),
        (["--features gso on"], offloads(gso=True)),
        (["-K tx off", "-K tx on"], offloads(tx=True)),
        (["-K tx off tx on"], offloads(tx=True)),
        (["-K generic-segmentation-offload off"], offloads(gso=False)),
        (["-K tx-generic-segmentation off", "-K gso on"], offloads(gso=True)),
        (["-K\trx  off\n"], offloads(rx=False)),
        (["-K 'rx' \"off\""], offloads(rx=False)),
        (
            [
                "-K rx off tx off sg off tso off ufo off gso off gro off lro off",
                "-K rxvlan on txvlan on ntuple on rxhash on",
            ],
            offloads(
                rx=False,
                tx=False,
                sg=False,
                tso=False,
                ufo=False,
                gso=False,
                gro=False,
                lro=False,
                rxvlan=True,
                txvlan=True,
                ntuple=True,
                rxhash=True,
            ),
        ),
        (["-K rx-gro-list on"], Ethtool((("rx-gro-list", True),))),
        (["-K tx-udp_tnl-segmentation off"], Ethtool((("tx-udp_tnl-segmentation", False),))),
        (
            ["-G rx 100 tx 200"],
            Ethtool(other=(("--set-ring", "rx", "100", "tx", "200"),)),
        ),
        (
            ["-s speed 100 duplex full", "-K rx off", "--change autoneg off"],
            Ethtool(
                (("rx", False),),
                (("--change", "speed", "100", "duplex", "full"), ("--change", "autoneg", "off")),
            ),
        ),
        (
            ["--set-priv-flags 'a flag' on"],
            Ethtool(other=(("--set-priv-flags", "a flag", "on"),)),
        ),
        (
            ["-A $(reboot) ; `id` | sh >/x && * #z"],
            Ethtool(
                other=(("--pause", "$(reboot)", ";", "`id`", "|", "sh", ">/x", "&&", "*", "#z"),)
            ),
        ),
    ],
)
def test_settings_mean_value(settings: list[str], expected: Ethtool) -> None:
    assert ethtool.parse(settings) == expected


@pytest.mark.parametrize(
    ("verb", "canonical"),
    [
        ("-s", "--change"),
        ("-A", "--pause"),
        ("-C", "--coalesce"),
        ("-G", "--set-ring"),
        ("-N", "--config-nfc"),
        ("-U", "--config-nfc"),
        ("--config-ntuple", "--config-nfc"),
        ("-X", "--rxfh"),
        ("--set-rxfh-indir", "--rxfh"),
        ("-L", "--set-channels"),
        ("--set-priv-flags", "--set-priv-flags"),
        ("--set-eee", "--set-eee"),
        ("--set-fec", "--set-fec"),
        ("--set-phy-tunable", "--set-phy-tunable"),
        ("--set-tunable", "--set-tunable"),
    ],
)
def test_short_and_long_verbs_are_one(verb: str, canonical: str) -> None:
    assert ethtool.parse([f"{verb} a 1"]) == Ethtool(other=((canonical, "a", "1"),))
    assert ethtool.parse([f"{canonical} a 1"]) == Ethtool(other=((canonical, "a", "1"),))


def test_a_group_replaces_what_was_said_of_its_members() -> None:
    members = "tx-checksum-ipv4 on tx-scatter-gather on tx-tcp-segmentation on rx-gro-list on"
    groups = "tx off sg off tso off"
    kept = (("rx-gro-list", True), ("sg", False), ("tso", False), ("tx", False))
    assert ethtool.parse([f"-K {members}", f"-K {groups}"]) == Ethtool(kept)


def test_a_member_after_its_group_is_an_exception_and_comes_after_it() -> None:
    value = ethtool.parse(["-K tx off", "-K tx-checksum-ipv4 on"])
    assert value == Ethtool((("tx", False), ("tx-checksum-ipv4", True)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("", "an empty setting; expected ethtool arguments, as `--offload tx off`"),
        ("  \n", "an empty setting"),
        ("''", "unknown verb ''; expected one of -s, --change, -A, --pause"),
        ("eth0", "unknown verb 'eth0'; expected one of -s"),
        ("-E magic 1", "unknown verb '-E'"),
        ("--flash file", "unknown verb '--flash'"),
        ("-k", "unknown verb '-k'; expected one of"),
        ("-K", "'-K' needs arguments"),
        ("-G", "'-G' needs arguments"),
        ("-K warp on", "unknown feature 'warp', word 2; expected one of rx, tx, sg, tso, ufo, gso"),
        ("-K rx on vlan-challenged on", "unknown feature 'vlan-challenged', word 4"),
        ("-K eth0 rx off", "unknown feature 'eth0', word 2"),
        ("-K rx", "feature 'rx' is ''; expected on or off"),
        ("-K rx maybe", "feature 'rx' is 'maybe'; expected on or off"),
        ("-K rx 'off", "cannot be split into words: No closing quotation"),
        ("-K rx off\\", "cannot be split into words: No escaped character"),
        ("-K rx off\n-K tx off", "holds unprintable characters; only text is allowed"),
        ("-G rx 1\x00", "holds unprintable characters"),
        ("-G rx 1\x1b[2J", "holds unprintable characters"),
        ("-G rx \ud800", "holds unprintable characters"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_is_allowed(setting: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        ethtool.parse(["-K gro on", setting])
    assert message in str(caught.value)
    str(caught.value).encode()  # it can be printed, whatever was in the setting


def test_canonical_text() -> None:
    settings = ["-s speed 10", "-K tx off rx on", "-A rx 'a b'", "-K lro off"]
    assert ethtool.format(ethtool.parse(settings)) == (
        "--offload lro off rx on tx off",
        "--change speed 10",
        "--pause rx 'a b'",
    )
    assert ethtool.format(Ethtool()) == ()


printable = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="\n\r"), max_size=8
).filter(str.isprintable)
states = st.lists(
    st.tuples(st.sampled_from(sorted(ethtool.FEATURES)), st.sampled_from(["on", "off"])), min_size=1
)
offload_settings = states.map(lambda pairs: " ".join(["-K", *(w for pair in pairs for w in pair)]))
other_settings = st.tuples(
    st.sampled_from(sorted(set(ethtool.VERBS) - {"-K", "--features", "--offload"})),
    st.lists(printable, min_size=1, max_size=4),
).map(lambda setting: shlex.join([setting[0], *setting[1]]))


@given(st.lists(offload_settings | other_settings, max_size=5))
def test_a_value_survives_writing(settings: list[str]) -> None:
    value = ethtool.parse(settings)
    assert ethtool.parse(ethtool.format(value)) == value


@given(states)
def test_of_each_feature_the_last_word_wins(pairs: list[tuple[str, str]]) -> None:
    together = ethtool.parse([" ".join(["-K", *(word for pair in pairs for word in pair)])])
    feature, state = pairs[-1]
    assert dict(together.offloads)[ethtool.FEATURES[feature]] == (state == "on")
    assert ethtool.parse([f"-K {name} {on}" for name, on in pairs]) == together


@given(st.text() | st.text().map("-K {}".format) | st.text().map("-G {}".format))
def test_any_text_is_a_value_or_an_option_error(setting: str) -> None:
    try:
        value = ethtool.parse([setting])
    except OptionError as error:
        str(error).encode()
        return
    assert ethtool.parse(ethtool.format(value)) == value


def test_no_name_is_in_two_tables() -> None:
    assert len(set(ethtool._KERNEL)) == len(ethtool._KERNEL)
    names = [*ethtool._LEGACY, *(s for group in ethtool._LEGACY.values() for s in group)]
    assert len({*names, *ethtool._KERNEL}) == len(names) + len(ethtool._KERNEL)
