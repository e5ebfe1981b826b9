"""The ethtool language: offloads as typed values, other settings as words, nothing for a shell."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import ethtool
from model.ethtool import Ethtool
from model.keys import SELF, Key, link_key
from model.options import OptionError
from model.resources import Link
from model.settings import LAYOUTS, SWITCHES


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
        (["-G rx 100 tx 0x10"], Ethtool(ring=(("rx", 100), ("tx", 16)))),
        (
            ["-G rx-mini 1", "--set-ring rx-jumbo 2 rx-mini 3"],
            Ethtool(ring=(("rx-jumbo", 2), ("rx-mini", 3))),
        ),
        (
            ["-L combined 4", "--set-channels rx 0 tx 1 other 4294967295"],
            Ethtool(channels=(("combined", 4), ("other", 4294967295), ("rx", 0), ("tx", 1))),
        ),
        (
            ["-C adaptive-rx on rx-usecs 8 adaptive-tx off tx-frames-low 010"],
            Ethtool(
                coalesce=(
                    ("adaptive-rx", 1),
                    ("adaptive-tx", 0),
                    ("rx-usecs", 8),
                    ("tx-frames-low", 8),
                )
            ),
        ),
        (
            ["-G rx 9 tx-push on tx 8", "-C cqe-mode-rx on"],
            Ethtool(
                ring=(("rx", 9), ("tx", 8)),
                other=(("--set-ring", "tx-push", "on"), ("--coalesce", "cqe-mode-rx", "on")),
            ),
        ),
        (
            ["-s speed 100 duplex full", "-K rx off", "--change autoneg off"],
            Ethtool(
                offloads=(("rx", False),),
                other=(
                    ("--change", "speed", "100", "duplex", "full"),
                    ("--change", "autoneg", "off"),
                ),
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
        ("-N", "--config-nfc"),
        ("-U", "--config-nfc"),
        ("--config-ntuple", "--config-nfc"),
        ("-X", "--rxfh"),
        ("--set-rxfh-indir", "--rxfh"),
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


@pytest.mark.parametrize(
    ("verbs", "words"),
    [(("-G", "--set-ring"), "rx 5"), (("-C", "--coalesce"), "rx-usecs 5"),
     (("-L", "--set-channels"), "rx 5")],
)  # fmt: skip
def test_short_and_long_verbs_of_typed_settings_are_one(verbs: tuple[str, str], words: str) -> None:
    first, second = (ethtool.parse([f"{verb} {words}"]) for verb in verbs)
    assert first == second
    assert ethtool.format(first) == (f"{verbs[1]} {words}",)


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
        ("-G rx", "'rx', word 2 of ring, needs a value"),
        (
            "-G rx 1 warp 2",
            "unknown parameter 'warp', word 4 of ring; expected one of rx, rx-mini, rx-jumbo, tx",
        ),
        ("-G rx many", "'rx': 'many' is not a whole number from 0 to 4294967295"),
        ("-G rx -1", "'rx': '-1' is out of range; expected 0 to 4294967295"),
        ("-L tx 4294967296", "'tx': '4294967296' is out of range; expected 0 to 4294967295"),
        (
            "-L rx-usecs 1",
            "unknown parameter 'rx-usecs', word 2 of channels; expected one of rx, tx, other",
        ),
        ("-C adaptive-rx 1", "'adaptive-rx' is '1'; expected on or off"),
        ("-C rx-usecs 1.5", "'rx-usecs': '1.5' is not a whole number"),
        (
            "-C rx-usec 1",
            "unknown parameter 'rx-usec', word 2 of coalesce; expected one of rx-usecs, rx-frames",
        ),
        ("-C rx-usecs $(reboot)", "'rx-usecs': '$(reboot)' is not a whole number"),
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
    settings = ["-s speed 10", "-L tx 2", "-K tx off rx on", "-A rx 'a b'", "-K lro off",
                "-C rx-frames 3 adaptive-rx on", "-G tx 0x10 tx-push on"]  # fmt: skip
    assert ethtool.format(ethtool.parse(settings)) == (
        "--offload tx off",
        "--offload lro off rx on",
        "--set-ring tx 16",
        "--coalesce adaptive-rx on rx-frames 3",
        "--set-channels tx 2",
        "--change speed 10",
        "--pause rx 'a b'",
        "--set-ring tx-push on",
    )
    assert ethtool.format(Ethtool()) == ()


printable = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="\n\r"), max_size=8
).filter(str.isprintable)
states = st.lists(
    st.tuples(st.sampled_from(sorted(ethtool.FEATURES)), st.sampled_from(["on", "off"])), min_size=1
)
offload_settings = states.map(lambda pairs: " ".join(["-K", *(w for pair in pairs for w in pair)]))
typed_settings = st.sampled_from(sorted(ethtool._TYPED.items())).flatmap(
    lambda item: st.lists(
        st.sampled_from(sorted(set(LAYOUTS[item[1]].places) - SWITCHES)).flatmap(
            lambda name: st.integers(0, 4294967295).map(lambda value: f"{name} {value}")
        ),
        min_size=1,
    ).map(lambda pairs: " ".join([item[0], *pairs]))
)
typed_verbs = {verb for verb, name in ethtool.VERBS.items() if name in ethtool._TYPED}
other_settings = st.tuples(
    st.sampled_from(sorted(set(ethtool.VERBS) - typed_verbs - {"-K", "--features", "--offload"})),
    st.lists(printable, min_size=1, max_size=4),
).map(lambda setting: shlex.join([setting[0], *setting[1]]))


@given(st.lists(offload_settings | typed_settings | other_settings, max_size=5))
def test_a_value_survives_writing(settings: list[str]) -> None:
    value = ethtool.parse(settings)
    assert ethtool.parse(ethtool.format(value)) == value


@given(states)
def test_of_several_settings_the_last_word_wins(pairs: list[tuple[str, str]]) -> None:
    one_by_one = ethtool.parse([f"-K {name} {on}" for name, on in pairs])
    feature, state = pairs[-1]
    assert dict(one_by_one.offloads)[ethtool.FEATURES[feature]] == (state == "on")


def test_in_one_setting_on_wins_as_in_ethtool() -> None:
    def together(text: str) -> dict[str, bool]:
        return dict(ethtool.parse([f"-K {text}"]).offloads)

    assert together("rx on rx off") == together("rx off rx on") == {"rx": True}
    assert together("tx on tx-checksum-sctp off") == {"tx": True}
    assert together("tx-checksum-sctp on tx off") == {"tx": False, "tx-checksum-sctp": True}


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


def test_a_run_is_marked_on_the_interface_by_a_name_of_its_own() -> None:
    eth0, eth1 = link_key(SELF, "eth0"), link_key(SELF, "eth1")
    argv = ("--change", "speed", "100")
    call = ethtool.call(eth0, argv)
    mark = ethtool.mark(call)
    assert call.argv == argv
    assert mark == "relink-ethtool-bda6ea2d3b4c35ebadc60bd082137d34"
    others = {
        ethtool.mark(ethtool.call(eth1, argv)),
        ethtool.mark(ethtool.call(eth0, ("--change", "speed 100"))),
        ethtool.mark(ethtool.call(eth0, (*argv, ""))),
    }
    assert len(others | {mark}) == 4
    assert ethtool.calls_made(Link(key=eth0, kind="veth", other_names=("mine", mark))) == [call.key]
    assert call.key == Key(SELF, "ethtool", "eth0", mark.removeprefix("relink-ethtool-"))
