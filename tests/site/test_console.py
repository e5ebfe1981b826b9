"""Blocks that a page's build runs: what is typed, what is shown, and what stops the build."""

from __future__ import annotations

import pytest

from tools.site import console

PAGE = """\
# A page

```yaml title="network.yaml"
links: []
```

Words.

```console
$ cat network.yaml
$ greeting=hello
$ false    # exit code 1
```

1. In a list:

    ```console
    $ echo $greeting \\
        world
    ```
"""


def shown(page: str) -> str:
    return console.filled(page, console.run(console.session(page), "page.md"))


@pytest.mark.kernel
def test_what_a_command_prints_is_put_below_it() -> None:
    assert (
        shown(PAGE)
        == """\
# A page

```yaml title="network.yaml"
links: []
```

Words.

```console
$ cat network.yaml
links: []
$ greeting=hello
$ false    # exit code 1
```

1. In a list:

    ```console
    $ echo $greeting \\
        world
    hello world
    ```
"""
    )


@pytest.mark.kernel
def test_a_page_has_namespaces_of_its_own_and_ends_what_it_leaves_running() -> None:
    page = """\
```console
$ ip netns add there
$ ip -brief link | wc -l
$ sleep 1000 &
$ echo $!
```
"""
    lines = shown(page).splitlines()
    assert "1" in lines, "only loopback"
    assert shown(page).splitlines()[:3] == lines[:3], "the second time nothing is there already"


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("$ false", "page.md:2: `false` ended with 1, not 0"),
        ("$ true # exit code 1 or 2", "`true # exit code 1 or 2` ended with 0, not 1 or 2"),
        ("$ echo it is this; exit 3", "did not run"),
        ("$ for", "did not run: script: line"),
        ("$ echo 1\n$ ls nowhere", "`ls nowhere` ended with 2, not 0\nls: cannot access"),
    ],
)  # fmt: skip
def test_another_end_than_the_page_says_stops_the_build(block: str, said: str) -> None:
    with pytest.raises(console.BlockError) as raised:
        shown(f"```console\n{block}\n```\n")
    assert said in str(raised.value)


@pytest.mark.kernel
def test_a_command_that_does_not_end_stops_the_build() -> None:
    steps = console.session("```console\n$ sleep 1000\n```\n")
    with pytest.raises(console.BlockError, match="`sleep 1000` did not end in time"):
        console.run(steps, "page.md", limit=1)


def test_an_output_that_somebody_typed_is_refused() -> None:
    with pytest.raises(console.BlockError, match="3: 'hello': the build writes what"):
        console.session("```console\n$ echo hello\nhello\n```\n")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("```sh\nanything\n```", "page.md:1: a block of sh"),
        ("```\n$ make install\n```", "'$ make install' outside of a console block"),
        ("Words.\n\n    X=1 .venv/bin/reconcile --once\n", "page.md:3: "),
        ("```text\nreconcile --once\n```", ""),
        ("```yaml\ncommand: reconcile\n```", ""),
        ("    reconcile [OPTIONS]", ""),
        ("    for a scope: apply(plan(...))", ""),
        ("```console\n$ reconcile --once\n```", ""),
    ],
)
def test_commands_that_nobody_runs_are_found(page: str, said: str) -> None:
    found = console.unproved(page, "page.md")
    assert (said in found[0]) if said else (found == [])


def test_blocks_of_another_source_are_not_run_here() -> None:
    page = '```console from="elsewhere"\n$ docker ps    # "nothing"\n$ a \\\n    b &\n```\n'
    assert console.session(page) == []
    assert console.sources(page) == ["elsewhere"]
    assert [console.bare(each) for each in console.of(page, "elsewhere")] == ["docker ps", "a b"]


def test_output_is_as_a_terminal_leaves_it() -> None:
    drawn = "\x1b[1mCreating one ... \r\nCreating one    ... \x1b[32mdone\x1b[0m\r\n 10%\r100%\n\n"
    assert console.cleaned(drawn) == "Creating one    ... done\n100%"


def test_a_long_output_is_cut_in_its_middle() -> None:
    output = "\n".join(map(str, range(100)))
    lines = console.shortened(output).split("\n")
    assert len(lines) == console.LONGEST + 1
    assert (lines[0], lines[-1]) == ("0", "99")
    assert lines[console.LONGEST // 2] == f"… {100 - console.LONGEST} more lines"
    assert console.shortened("short") == "short"
