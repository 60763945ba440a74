from __future__ import annotations

import base64

import pytest

from consumers.senders.signature import TOLERANCE_S, signed_headers, signing_key, verify
from eventlog.errors import ConfigurationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
NOW_US = 1614265330 * 1_000_000
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
"""The example that the specification's libraries are tested with."""


def changed(**headers: str) -> dict[str, str]:
    return {**HEADERS, **{f"webhook-{name}": value for name, value in headers.items()}}


def test_it_is_what_the_specification_says():
    assert signed_headers(SECRET, HEADERS["webhook-id"], BODY, NOW_US) == HEADERS
    assert verify(SECRET, HEADERS, BODY, NOW_US)


def test_a_secret_is_base64_behind_its_prefix_or_any_other_text():
    assert signing_key("whsec_" + base64.b64encode(b"\x00key").decode()) == b"\x00key"
    assert signing_key("schlüssel") == "schlüssel".encode()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_not base64", "whsec_YQ", "whsec_ü", "\ud800"]
)
def test_what_is_no_secret(secret):
    with pytest.raises(ConfigurationError):
        signing_key(secret)


def test_names_of_headers_are_of_any_case():
    assert verify(SECRET, {name.title(): value for name, value in HEADERS.items()}, BODY, NOW_US)


@pytest.mark.parametrize(
    "signatures",
    ["v1,bm8= {}", "{} v1,bm8=", "v1a,bm8= v2,x {}", "{}  {}"],
)
def test_one_signature_of_several_is_enough(signatures):
    given = signatures.format(HEADERS["webhook-signature"], HEADERS["webhook-signature"])
    assert verify(SECRET, changed(signature=given), BODY, NOW_US)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        changed(id="another"),
        changed(id=""),
        changed(timestamp="1614265331"),
        changed(timestamp=""),
        changed(timestamp="now"),
        changed(timestamp="-1"),
        changed(timestamp="١٦١٤٢٦٥٣٣٠"),
        changed(timestamp="9" * 400),
        changed(signature=""),
        changed(signature="v1,"),
        changed(signature="v1,ünsinn"),
        changed(signature="v1,\ud800"),
        changed(signature=HEADERS["webhook-signature"].removeprefix("v1,")),
        changed(signature=HEADERS["webhook-signature"].replace("v1,", "v2,")),
        changed(id="\ud800"),
    ],
)
def test_what_does_not_fit_is_refused(headers):
    assert not verify(SECRET, headers, BODY, NOW_US)


def test_another_body_or_secret_is_refused():
    assert not verify(SECRET, HEADERS, BODY + b" ", NOW_US)
    assert not verify("another", HEADERS, BODY, NOW_US)


@pytest.mark.parametrize("sign", [-1, 1])
def test_what_is_old_or_of_the_future_is_refused(sign):
    edge_us = NOW_US + sign * TOLERANCE_S * 1_000_000
    assert verify(SECRET, HEADERS, BODY, edge_us)
    assert not verify(SECRET, HEADERS, BODY, edge_us + sign)
