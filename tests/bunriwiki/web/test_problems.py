from __future__ import annotations

import json

import pytest

from bunriwiki.web import problems
from bunriwiki.web.problems import Problem, RequestError


class TracedProblem(Problem):
    request_id: str


def test_a_problem_has_the_fields_of_rfc_9457() -> None:
    problem = Problem.of(problems.not_found("There is nothing at /가."), "/가")
    assert json.loads(problem.model_dump_json()) == {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "detail": "There is nothing at /가.",
        "instance": "/가",
    }


def test_a_problem_may_have_further_fields() -> None:
    problem = TracedProblem.of(problems.invalid("No."), "/", request_id="a")
    assert (problem.status, problem.request_id) == (422, "a")


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (problems.broken(""), 400, {}),
        (problems.unauthorized(""), 401, {"WWW-Authenticate": "Bearer"}),
        (problems.forbidden(""), 403, {}),
        (problems.method_not_allowed("BREW", "GET, HEAD"), 405, {"Allow": "GET, HEAD"}),
        (problems.too_large(""), 413, {}),
        (problems.unsupported(""), 415, {}),
        (problems.too_many(""), 429, {"Retry-After": "1"}),
        (problems.internal(""), 500, {}),
        (problems.unavailable("", 5), 503, {"Retry-After": "5"}),
        (problems.deadline_exceeded(""), 504, {}),
        (RequestError(409, ""), 409, {}),
    ],
)
def test_statuses_and_headers(error: RequestError, status: int, headers: dict[str, str]) -> None:
    assert (error.status, error.headers) == (status, headers)
    assert error.title != "Error"
    assert RequestError(418, "").title == "Error"


def test_a_method_that_a_client_made_up_is_shortened() -> None:
    assert problems.method_not_allowed("X" * 100, "POST").detail == f"{'X' * 20} is not possible here. Use POST."
