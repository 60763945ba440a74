"""What is typed into the SQL shell: where it ends, and what may stand next."""

from __future__ import annotations

import pytest

from service.cli.sql_completion import Vocabulary, candidates
from service.cli.sql_input import is_finished, pieces

WORDS = Vocabulary(
    {"messages": ["text", "session", "sender"], "sessions": ["session", "status"]},
    ["SELECT", "SEMI", "FROM"],
    ["sum", "strftime"],
    {".schema": "columns", ".report": "run", ".export": "write"},
    ["tools", "sessions"],
)


class TestPieces:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", []),
            (" ;; \n;", []),
            ("-- nothing; here\n/* ; */", []),
            ("SELECT 1;", ["SELECT 1;"]),
            ("SELECT 1; SELECT 2\n;", ["SELECT 1;", "SELECT 2\n;"]),
            ("SELECT 'a;b', \"c;d\", $$e;f$$ -- ;\n;", ["SELECT 'a;b', \"c;d\", $$e;f$$ -- ;\n;"]),
            ("SELECT 'ä漢🙂'; SELECT 'é';", ["SELECT 'ä漢🙂';", "SELECT 'é';"]),
            (".views", [".views"]),
            ("  .limit 5  \nSELECT 1;.help", [".limit 5", "SELECT 1;", ".help"]),
            ("-- first\n.views\n", [".views"]),
            ("SELECT 1", ["SELECT 1"]),
            ("SELECT 'open;", ["SELECT 'open;"]),
            ("\x00\udcff;", ["?;"]),
        ],
    )
    def test_one_after_the_other(self, text, found):
        assert [piece.text for piece in pieces(text)] in (found, [f"\x00{each}" for each in found])

    @pytest.mark.parametrize(
        ("text", "finished"),
        [
            ("", True),
            ("SELECT 1;", True),
            (".help", True),
            ("SELECT 1", False),
            ("SELECT 1; SELECT", False),
            ("SELECT ';", False),
            ("SELECT 1; -- done", True),
        ],
    )
    def test_enter_runs_what_is_finished(self, text, finished):
        assert is_finished(text) is finished


class TestCandidates:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("SELECT 1 FROM ", ["messages", "sessions"]),
            ("SELECT 1 FROM messages JOIN se", ["sessions"]),
            ("FROM messages, se", ["sessions"]),
            ("FROM messages SELECT te", ["text"]),
            ("SELECT se", ["session", "sender", "sessions", "SELECT", "SEMI"]),
            ("SELECT s| FROM sessions", ["session", "status", "sessions", "SELECT", "SEMI",
                                         "strftime(", "sum("]),
            ("SELECT ", []),
            ("SELECT xyz", []),
            (".", [".schema", ".report", ".export"]),
            (".sch", [".schema"]),
            (".schema se", ["sessions"]),
            (".report t", ["tools"]),
            (".report tools s", []),
        ],
    )  # fmt: skip
    def test_what_fits_the_place(self, text, found):
        before = text.partition("|")[0]
        assert [each.word for each in candidates(before, text.replace("|", ""), WORDS)] == found
