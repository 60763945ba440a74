from __future__ import annotations

from pathlib import Path

import pytest

from tests.layering import (
    MAY_IMPORT,
    cycles,
    forbidden_edges,
    header_faults,
    imports,
    spelled_keys,
)

ROOT = Path(__file__).parents[2]
KEYS_FILE = "eventlog/keys.py"


def sources(suffix: str) -> dict[str, str]:
    return {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
        for package in MAY_IMPORT
        for file in sorted((ROOT / package).rglob(f"*{suffix}"))
    }


PYTHON = sources(".py")
LUA = sources(".lua")
SCRIPTS = {path: text for path, text in LUA.items() if "/lua/include/" not in path}


class TestTheProduct:
    def test_every_package_is_looked_at(self):
        assert {path.split("/")[0] for path in PYTHON} == MAY_IMPORT.keys()
        assert {"eventlog/lua/append.lua", "projections/lua/commit.lua"} <= SCRIPTS.keys()
        assert "eventlog.codec.Codec" in {t for _, t in imports("x.py", PYTHON["eventlog/log.py"])}

    def test_imports_point_one_way(self):
        assert forbidden_edges(PYTHON) == []

    def test_no_files_import_each_other(self):
        assert cycles(PYTHON) == []

    @pytest.mark.parametrize("path", SCRIPTS)
    def test_a_script_says_what_it_takes_and_returns(self, path):
        assert header_faults(path, SCRIPTS[path]) == []

    @pytest.mark.parametrize("path", sorted(LUA.keys() - SCRIPTS.keys()))
    def test_an_included_part_says_what_it_gives(self, path):
        assert LUA[path].startswith("--")

    def test_keys_are_spelled_in_one_file(self):
        everything = {**PYTHON, **LUA}
        assert spelled_keys(KEYS_FILE, everything.pop(KEYS_FILE)), "the search would find them"
        assert [
            found for path, text in everything.items() for found in spelled_keys(path, text)
        ] == []


class TestForbiddenEdges:
    @pytest.mark.parametrize(
        ("path", "source"),
        [
            ("eventlog/a.py", "import projections"),
            ("eventlog/a.py", "from service.wiring import wire"),
            ("projections/a.py", "from consumers import worker"),
            ("projections/a.py", "import analytics.segment as s"),
            ("consumers/a.py", "import json, projections.folding.fold"),
            ("consumers/a.py", "from bridge import Bridge"),
            ("analytics/a.py", "from projections.views import history"),
            ("analytics/sub/a.py", "from consumers.retry import due"),
            ("bridge/a.py", "from service import wiring"),
            ("eventlog/a.py", "from tests.support import eventually"),
            ("service/a.py", "import bench"),
            ("projections/a.py", "def f():\n    import consumers"),
            ("projections/a.py", "if TYPE_CHECKING:\n    from analytics import Segment"),
            ("projections/a.py", "try:\n    import consumers\nexcept ImportError:\n    pass"),
            ("projections/a.py", "class A:\n    from consumers import worker"),
            (
                "projections/a.py",
                "import importlib\nx = importlib.import_module('consumers.worker')",
            ),
            ("projections/a.py", "x = __import__('analytics')"),
            ("consumers/a.py", "settle = load_script('projections', 'commit')"),
            ("projections/a.py", "from ..consumers import worker"),
            ("projections/views/a.py", "from ...analytics.segment import Segment"),
        ],
    )
    def test_each_is_found_with_its_line(self, path, source):
        [found] = forbidden_edges({path: source})
        assert found.startswith(f"{path}:")

    def test_every_pair_against_the_order_is_found(self):
        packages = list(MAY_IMPORT)
        for importer in packages:
            for target in packages:
                found = forbidden_edges({f"{importer}/a.py": f"from {target}.b import c"})
                middle = {"projections", "consumers", "analytics"}
                fine = importer == target or (
                    packages.index(target) < packages.index(importer)
                    and not {importer, target} <= middle
                )
                assert bool(found) != fine, (importer, target)

    @pytest.mark.parametrize(
        ("path", "source"),
        [
            ("projections/a.py", "from eventlog import Event\nimport projections.folding.fold"),
            ("bridge/a.py", "import analytics, consumers, projections, eventlog"),
            ("service/cli/a.py", "from bridge import Bridge\nfrom ..wiring import wire"),
            ("projections/views/a.py", "from .. import fold\nfrom . import history"),
            ("eventlog/a.py", "import json\nfrom redis import Redis\n'import projections'"),
            ("eventlog/a.py", "from serviceable import x"),
        ],
    )
    def test_what_is_allowed(self, path, source):
        assert forbidden_edges({path: source}) == []


class TestCycles:
    def test_two_files(self):
        tree = {"eventlog/a.py": "from eventlog.b import x", "eventlog/b.py": "import eventlog.a"}
        assert cycles(tree) == [["eventlog/a.py", "eventlog/b.py"]]

    def test_a_longer_way_round_once(self):
        tree = {
            "eventlog/c.py": "from eventlog import a",
            "eventlog/a.py": "def f():\n    from eventlog import b",
            "eventlog/b.py": "if TYPE_CHECKING:\n    from .c import x",
            "eventlog/d.py": "from eventlog import a, b, c",
        }
        assert cycles(tree) == [["eventlog/a.py", "eventlog/b.py", "eventlog/c.py"]]

    def test_two_cycles_through_one_file(self):
        tree = {
            "eventlog/a.py": "from eventlog import b, c",
            "eventlog/b.py": "from eventlog import a",
            "eventlog/c.py": "from eventlog import a",
        }
        assert len(cycles(tree)) == 2

    def test_through_the_package_s_own_file(self):
        tree = {
            "eventlog/__init__.py": "from eventlog.a import x",
            "eventlog/a.py": "from eventlog import y",
        }
        assert cycles(tree) == [["eventlog/__init__.py", "eventlog/a.py"]]

    def test_a_diamond_is_none(self):
        tree = {
            "eventlog/__init__.py": "from eventlog.a import x",
            "eventlog/a.py": "from eventlog.b import x\nfrom eventlog.c import y",
            "eventlog/b.py": "import eventlog.d",
            "eventlog/c.py": "from eventlog import d",
            "eventlog/d.py": "",
        }
        assert cycles(tree) == []


class TestHeaders:
    GOOD = "--[[ Do it.\n\nKEYS  1 key\nARGV  1 value\nReturns  1.\n--]]\nreturn ARGV[1]\n"

    def test_a_whole_one(self):
        assert header_faults("x.lua", self.GOOD) == []

    @pytest.mark.parametrize("word", ["KEYS", "ARGV", "Returns"])
    def test_a_missing_word(self, word):
        [fault] = header_faults("x.lua", self.GOOD.replace(f"\n{word} ", "\nNote "))
        assert word in fault

    def test_arguments_are_named_only_where_there_are_any(self):
        script = "--[[ Do it.\nKEYS  1 key\nReturns  1.\n--]]\nreturn 1 -- no ARGV\n"
        assert header_faults("x.lua", script) == []

    @pytest.mark.parametrize("script", ["", "return 1", "-- KEYS 1\n-- Returns\nreturn 1"])
    def test_none(self, script):
        assert len(header_faults("x.lua", script)) == 1


class TestSpelledKeys:
    @pytest.mark.parametrize(
        ("path", "source"),
        [
            ("a.py", 'key = f"{{{log}:{p}}}:stream"'),
            ("a.py", 'key = "{eventlog:0}:head"'),
            ("a.py", 'key = prefix + "model:" + name'),
            ("a.lua", "redis.call('GET', KEYS[1] .. ':meta')"),
            ("a.lua", "redis.call('GET', 'eventlog:meta')"),
            ("a.lua", "local key = '{eventlog:0}:head'"),
        ],
    )
    def test_each_is_found(self, path, source):
        assert spelled_keys(path, source)

    @pytest.mark.parametrize(
        ("path", "source"),
        [
            ("a.py", '"""Keys look like `{log:0}:stream`."""\nkey = keys.stream(0)'),
            ("a.py", 'text = f"model: {name}"'),
            ("a.lua", "redis.call('GET', KEYS[1]) -- {eventlog:0}:head"),
            ("a.lua", "--[[ {eventlog:0}:head ]] return 'HEADLOST ' .. KEYS[1]"),
        ],
    )
    def test_what_is_none(self, path, source):
        assert spelled_keys(path, source) == []
