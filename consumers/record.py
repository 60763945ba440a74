"""What is remembered of an entry between attempts: its failures, and its strikes. Pure."""

from __future__ import annotations

import msgspec

from eventlog.vocabulary import FailedAttempt

KEPT_FAILURES = 20
"""Of an entry tried more often, the last ones are told."""

LONGEST_ERROR = 2000
"""Characters of an error's text that are kept."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry's past. As JSON it lies in Redis until the entry is settled."""

    attempts: int = 0
    """Attempts that failed."""
    strikes: int = 0
    """Begun attempts that never came to an end: their process died, or lost its lease."""
    failures: tuple[FailedAttempt, ...] = ()
    is_doubtful: bool = False
    """Whether it may have been begun when an owner died, among others that were not. That is no
    strike; but from then on each beginning is written down before it."""

    def doubtful(self) -> Record:
        """Return the record of an entry that may be begun without being written down."""
        return msgspec.structs.replace(self, is_doubtful=True)

    def begun(self) -> Record:
        """Return the record while another attempt runs: a strike until its end is known."""
        return msgspec.structs.replace(self, strikes=self.strikes + 1)

    def returned(self) -> Record:
        """Return the record after an attempt that was called off, or did not come about."""
        if self.strikes:
            return msgspec.structs.replace(self, strikes=self.strikes - 1)
        return msgspec.structs.replace(self, is_doubtful=False)

    def failed(self, failure: FailedAttempt) -> Record:
        """Return the record after an attempt that failed, by which the strikes are forgotten."""
        failures = (*self.failures, failure)[-KEPT_FAILURES:]
        return Record(self.attempts + 1, 0, failures)


NO_RECORD = Record()

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> str:
    """Return the record as it lies in Redis."""
    return _encoder.encode(record).decode()


def decode_record(raw: bytes | None) -> Record:
    """Return the record that lies in Redis; an empty one where there is none."""
    return NO_RECORD if raw is None else _decoder.decode(raw)
