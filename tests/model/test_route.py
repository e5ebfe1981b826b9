"""The language of `route`, and the kernel's own opinion of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.route import RouteError, RouteSpec, parse

EVERYWHERE = "0.0.0.0/0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", RouteSpec(EVERYWHERE, 4, scope=253)),
        ("all", RouteSpec(EVERYWHERE, 4, scope=253)),
        ("0.0.0.0/0", RouteSpec(EVERYWHERE, 4, scope=253)),
        ("-4 default", RouteSpec(EVERYWHERE, 4, scope=253)),
        ("-6 default", RouteSpec("::/0", 6, metric=1024)),
        ("default via 10.0.0.1", RouteSpec(EVERYWHERE, 4, via="10.0.0.1")),
        ("default via inet 10.0.0.1", RouteSpec(EVERYWHERE, 4, via="10.0.0.1")),
        ("default via inet6 fd00::1", RouteSpec("::/0", 6, via="fd00::1", metric=1024)),
        ("default src fd00::1", RouteSpec("::/0", 6, src="fd00::1", metric=1024)),
        ("default via FD00:0::1", RouteSpec("::/0", 6, via="fd00::1", metric=1024)),
        ("unicast 10.0.0.0/8", RouteSpec("10.0.0.0/8", 4, scope=253)),
        ("10.0.0.1", RouteSpec("10.0.0.1/32", 4, scope=253)),
        ("fd00::1", RouteSpec("fd00::1/128", 6, metric=1024)),
        ("fd00::/64 metric 0", RouteSpec("fd00::/64", 6, metric=1024)),
        ("10.0.0.0/8 metric 5", RouteSpec("10.0.0.0/8", 4, metric=5, scope=253)),
        ("10.0.0.0/8 priority 5", RouteSpec("10.0.0.0/8", 4, metric=5, scope=253)),
        ("10.0.0.0/8 preference 5", RouteSpec("10.0.0.0/8", 4, metric=5, scope=253)),
        ("10.0.0.0/8 table 100", RouteSpec("10.0.0.0/8", 4, table=100, scope=253)),
        ("10.0.0.0/8 table local", RouteSpec("10.0.0.0/8", 4, table=255, scope=253)),
        ("10.0.0.0/8 table main", RouteSpec("10.0.0.0/8", 4, scope=253)),
        ("10.0.0.0/8 table 0", RouteSpec("10.0.0.0/8", 4, scope=253)),
        ("10.0.0.0/8 scope global", RouteSpec("10.0.0.0/8", 4)),
        ("10.0.0.0/8 scope 200", RouteSpec("10.0.0.0/8", 4, scope=200)),
        ("10.0.0.0/8 mtu 1400", RouteSpec("10.0.0.0/8", 4, scope=253, mtu=1400)),
        ("10.0.0.0/8 advmss 1360", RouteSpec("10.0.0.0/8", 4, scope=253, advmss=1360)),
        ("10.0.0.0/8 via 10.1.0.1 onlink", RouteSpec("10.0.0.0/8", 4, via="10.1.0.1", onlink=True)),
        ("10.0.0.0/8 dev eth0", RouteSpec("10.0.0.0/8", 4, scope=253, dev="eth0")),
        ("local 10.0.0.1", RouteSpec("10.0.0.1/32", 4, scope=254, table=255, type="local")),
        ("local 10.0.0.1 table main", RouteSpec("10.0.0.1/32", 4, scope=254, type="local")),
        ("broadcast 10.0.0.7", RouteSpec("10.0.0.7/32", 4, scope=253, table=255, type="broadcast")),
        ("blackhole 10.0.0.0/8", RouteSpec("10.0.0.0/8", 4, type="blackhole")),
        ("unreachable fd00::/64", RouteSpec("fd00::/64", 6, metric=1024, type="unreachable")),
        ("prohibit default", RouteSpec(EVERYWHERE, 4, type="prohibit")),
        ("throw 10.0.0.0/8 table 9", RouteSpec("10.0.0.0/8", 4, table=9, type="throw")),
        ("fd00::/64 scope global", RouteSpec("fd00::/64", 6, metric=1024)),
        (" default \t via\n10.0.0.1 ", RouteSpec(EVERYWHERE, 4, via="10.0.0.1")),
        ("10.0.0.0/8 metric 4294967295", RouteSpec("10.0.0.0/8", 4, metric=0xFFFFFFFF, scope=253)),
    ],
)  # fmt: skip
def test_spellings(text: str, expected: RouteSpec) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty route"),
        ("  ", "an empty route"),
        ("-4", "names no destination"),
        ("unicast", "names no destination"),
        ("multicast 224.0.0.1", "is not a destination"),
        ("via", "is not a destination"),
        ("any", "is not a destination"),
        ("to 10.0.0.0/8", "is not a destination"),
        ("10.0.0.1/8", "did you mean 10.0.0.0/8"),
        ("fd00::1/64", "did you mean fd00::/64"),
        ("10.0.0.0/33", "is not a destination"),
        ("10.0.0.0/255.0.0.0", "is not a destination"),
        ("10.0.0.0/", "is not a destination"),
        ("fe80::%eth0/64", "is not a destination"),
        ("default via", "'via' needs a value"),
        ("default via inet", "'via' needs a value"),
        ("default via inet6", "'via' needs a value"),
        ("default via x", "via 'x' is not an IP address"),
        ("default via fe80::1%eth0", "is not an IP address"),
        ("default via 10.0.0.1 via 10.0.0.2", "'via' is given twice"),
        ("default metric 1 priority 2", "'priority' is given twice"),
        ("default through 10.0.0.1", "unknown word 'through'; expected one of dev, via"),
        ("default nexthop via 10.0.0.1", "multipath"),
        ("default mtu lock 1400", "`mtu lock` is not supported"),
        ("default mtu", "'mtu' needs a value"),
        ("default mtu x", "mtu 'x' is not a number from 0 to 65535"),
        ("default mtu 65536", "is not a number from 0 to 65535"),
        ("default metric -1", "is not a number"),
        ("default metric 4294967296", "is not a number"),
        ("default metric 0x10", "is not a number"),
        ("default metric \u0663", "is not a number"),
        ("default metric " + "9" * 5000, "is not a number"),
        ("default table mine", "or one of default, main, local"),
        ("default scope 256", "or one of global, site, link, host, nowhere"),
        ("-6 10.0.0.0/8", "10.0.0.0/8 is not an IPv6 destination"),
        ("-4 fd00::/64", "fd00::/64 is not an IPv4 destination"),
        ("-6 default via 10.0.0.1", "via 10.0.0.1 is not of the family of default"),
        ("10.0.0.0/8 via fd00::1", "via fd00::1 is not of the family of 10.0.0.0/8"),
        ("10.0.0.0/8 src fd00::1", "src fd00::1 is not of the family"),
        ("default via 10.0.0.1 src fd00::1", "src fd00::1 is not of the family"),
        ("default onlink", "'onlink' needs 'via'"),
        ("fd00::/64 scope link", "IPv6 routes have no scope"),
        ("blackhole 10.0.0.0/8 via 10.0.0.1", "blackhole routes take no 'via'"),
        ("unreachable 10.0.0.0/8 dev eth0", "unreachable routes take no 'dev'"),
        ("prohibit 10.0.0.0/8 src 10.0.0.1", "prohibit routes take no 'src'"),
        ("throw 10.0.0.0/8 onlink", "throw routes take no 'onlink'"),
    ],
)
def test_what_is_no_route(text: str, said: str) -> None:
    with pytest.raises(RouteError) as caught:
        parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("word", ["dev", "via", "src", "metric", "table", "scope", "mtu", "advmss"])
def test_a_word_without_its_value(word: str) -> None:
    with pytest.raises(RouteError, match=f"'{word}' needs a value"):
        parse(f"default {word}")


def test_identity_is_what_the_kernel_tells_routes_apart_by() -> None:
    same = [parse("10.0.0.0/8 via 10.0.0.1"), parse("10.0.0.0/8 metric 0 table main")]
    assert len({route.identity for route in same}) == 1
    other = [parse(f"10.0.0.0/{text}") for text in ("8", "9", "8 metric 1", "8 table 9")]
    assert len({route.identity for route in other}) == 4


WORDS = st.sampled_from(
    ["default", "10.0.0.0/8", "fd00::/64", "via", "10.0.0.1", "fd00::1", "metric", "5", "table",
     "main", "scope", "link", "mtu", "1400", "lock", "onlink", "src", "dev", "eth0", "blackhole",
     "inet6", "-6", "nexthop", "local"]
)  # fmt: skip


@given(words=st.lists(WORDS | st.text(max_size=8), max_size=10))
def test_any_words_are_a_route_or_refused(words: list[str]) -> None:
    try:
        found: object = parse(" ".join(words))
    except RouteError as error:
        found = error
    assert str(found)
