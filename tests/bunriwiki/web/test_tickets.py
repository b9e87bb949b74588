from __future__ import annotations

import pytest

from bunriwiki.web.tickets import MAX_CHARACTERS, Issue, TicketError, TicketExpiredError, TicketReader, ticket_issuer

OLD, NEW = "o" * 32, "n" * 32
LABELS = [("긍정", 0.975205)]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def issue(issuer: Issue) -> str:
    ticket = issuer("sentiment", "v1", LABELS, "request-1")
    assert ticket
    return ticket


def test_a_ticket_says_what_the_answer_said() -> None:
    clock = Clock()
    found = TicketReader([NEW], clock).read(issue(ticket_issuer(NEW, 60, clock)))
    assert (found.model, found.version, found.labels, found.request_id) == ("sentiment", "v1", LABELS, "request-1")
    assert found.expires == 1060
    assert len(found.nonce) == 18


def test_no_two_tickets_have_a_nonce_in_common() -> None:
    reader = TicketReader([NEW])
    issuers = [ticket_issuer(NEW, 60) for _ in range(5)]
    assert len({reader.read(issue(issuer)).nonce for issuer in issuers for _ in range(200)}) == 1000


def test_it_is_safe_in_a_header_and_in_a_list() -> None:
    ticket = issue(ticket_issuer(NEW, 60))
    assert set(ticket) <= set("0123456789abcdef")
    assert len(ticket) < 200


def test_it_expires() -> None:
    clock = Clock()
    ticket, reader = issue(ticket_issuer(NEW, 60, clock)), TicketReader([NEW], clock)
    clock.now = 1060
    reader.read(ticket)
    clock.now = 1061
    with pytest.raises(TicketExpiredError):
        reader.read(ticket)


def test_a_retired_key_is_still_accepted_and_no_other() -> None:
    ticket = issue(ticket_issuer(OLD, 60))
    assert TicketReader([NEW, OLD]).read(ticket).version == "v1"
    with pytest.raises(TicketError):
        TicketReader([NEW]).read(ticket)


def test_no_bit_can_be_changed() -> None:
    ticket, reader = issue(ticket_issuer(NEW, 60)), TicketReader([NEW])
    whole = bytes.fromhex(ticket)
    for position in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(TicketError):
            reader.read(changed.hex())


@pytest.mark.parametrize("text", ["", "a", "aaaa", "ä", "a" * (MAX_CHARACTERS + 2), "!" * 40, "a" * 100])
def test_anything_else_is_no_ticket(text: str) -> None:
    with pytest.raises(TicketError):
        TicketReader([NEW]).read(text)


def test_an_answer_with_very_many_classes_has_no_ticket() -> None:
    assert ticket_issuer(NEW, 60)("yolo", "v1", [(f"class {number}", 0.5) for number in range(300)], "") is None
