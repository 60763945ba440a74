"""How tables are recognised, and how somebody says otherwise."""

from __future__ import annotations

import pytest

from bridge.importers.migration.layout import recognise
from bridge.importers.migration.mapping import load_mapping
from eventlog.errors import ConfigurationError


def test_the_telegram_history_layout_is_known():
    columns = ["id", "chat_id", "message_id", "sender", "content", "timestamp", "message_type"]
    seen = recognise("messages", columns)
    assert seen is not None
    assert seen.kind == "message"
    assert seen.columns == {
        "conversation": "chat_id",
        "time": "timestamp",
        "text": "content",
        "message_id": "message_id",
        "sender": "sender",
        "message_type": "message_type",
    }


def test_an_unknown_table_is_not_guessed_at():
    assert recognise("settings", ["key", "value"]) is None


def test_what_a_kind_needs_is_missed_by_name():
    seen = recognise("messages", ["id", "body"])
    assert seen is not None
    assert seen.missing == ("conversation", "time")


def test_links_and_chats_are_events_whatever_type_they_speak_of():
    seen = recognise("chats", ["chat_id", "chat_name", "type", "updated_at"])
    assert seen is not None
    assert seen.constants == {"event_type": "chat"}
    assert seen.columns == {"conversation": "chat_id", "time": "updated_at"}


def test_a_given_column_goes_before_what_names_say():
    seen = recognise("t", ["chat_id", "text", "body", "ts"], "message", {"text": "body"})
    assert seen is not None
    assert seen.columns["text"] == "body"


def test_words_and_files_are_laid_over_each_other(tmp_path):
    path = tmp_path / "map.toml"
    path.write_text(
        'platform = "discord"\nown_names = ["Hal"]\n'
        '[tables.t]\nkind = "message"\n[tables.t.columns]\ntext = "a"\nsender = "who"\n'
        '[tables.t.values.direction]\n2 = "out"\n'
    )
    mapping = load_mapping([str(path), "t.text=b", "time_zone=Europe/Berlin"])
    assert mapping.platform == "discord"
    assert mapping.tables["t"].columns == {"text": "b", "sender": "who"}
    assert mapping.tables["t"].values == {"direction": {"2": "out"}}
    assert mapping.reading.own_names == {"hal"}
    assert str(mapping.reading.zone) == "Europe/Berlin"


def test_a_mapping_may_be_json(tmp_path):
    path = tmp_path / "map.json"
    path.write_text('{"tables": {"t": {"kind": "skip"}}}')
    assert load_mapping([str(path)]).tables["t"].kind == "skip"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("t=letter", "letter"),
        ("t.colour=x", "colour"),
        ("time_zone=Mars", "time zone"),
        ("nowhere.toml", "cannot be read"),
    ],
)
def test_a_wrong_word_is_named(word, said):
    with pytest.raises(ConfigurationError, match=said):
        load_mapping([word])


@pytest.mark.parametrize(
    ("content", "said"),
    [('colour = "red"', "colour"), ("[[[", "no mapping"), ("[tables.t]\nkinds = 1", "kinds")],
)
def test_a_wrong_file_is_named(tmp_path, content, said):
    path = tmp_path / "map.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        load_mapping([str(path)])
